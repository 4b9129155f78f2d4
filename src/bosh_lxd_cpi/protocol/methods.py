"""The table of BOSH methods, and the way from a request to its action."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import rpc

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bosh_lxd_cpi.config.schema import Config
    from bosh_lxd_cpi.lxd.transport import Transport
    from bosh_lxd_cpi.protocol.rpc import Request
    from bosh_lxd_cpi.runtime.clock import Clock
    from bosh_lxd_cpi.runtime.log import Log

MINUTE = 60


class Method(NamedTuple):
    """How a BOSH method is served."""

    action: str
    """Module and function under bosh_lxd_cpi.actions."""
    least: int
    most: int
    """How many arguments BOSH sends."""
    throttled: bool = False
    """Whether it makes the server work hard enough to wait for a slot."""
    deadline: float = 5 * MINUTE
    reverse: str = ""
    """The method that deletes what this one makes, by the CID that it answers."""


METHODS = {
    "create_stemcell": Method(
        "stemcells.create_stemcell", 2, 3, throttled=True, deadline=60 * MINUTE, reverse="delete_stemcell"
    ),
    "delete_stemcell": Method("stemcells.delete_stemcell", 1, 1, throttled=True),
    "create_vm": Method("create_vm.create_vm", 4, 6, throttled=True, deadline=30 * MINUTE, reverse="delete_vm"),
    "delete_vm": Method("vms.delete_vm", 1, 1, throttled=True, deadline=10 * MINUTE),
    "has_vm": Method("vms.has_vm", 1, 1),
    "reboot_vm": Method("vms.reboot_vm", 1, 1, throttled=True),
    "set_vm_metadata": Method("vms.set_vm_metadata", 2, 2),
    "create_disk": Method("disks.create_disk", 2, 3, throttled=True, reverse="delete_disk"),
    "delete_disk": Method("disks.delete_disk", 1, 1, throttled=True),
    "has_disk": Method("disks.has_disk", 1, 1),
    "attach_disk": Method("disks.attach_disk", 2, 2, throttled=True, deadline=60 * MINUTE),
    "detach_disk": Method("disks.detach_disk", 2, 2, throttled=True),
    "get_disks": Method("disks.get_disks", 1, 1),
    "resize_disk": Method("disks.resize_disk", 2, 2, throttled=True),
    "update_disk": Method("disks.update_disk", 3, 3, throttled=True),
    "set_disk_metadata": Method("disks.set_disk_metadata", 2, 2),
    "snapshot_disk": Method(
        "snapshots.snapshot_disk", 1, 2, throttled=True, deadline=15 * MINUTE, reverse="delete_snapshot"
    ),
    "delete_snapshot": Method("snapshots.delete_snapshot", 1, 1, throttled=True),
}

FORMATS = ("openstack-qcow2", "openstack-raw")
API_VERSION = 2
"""Not 3: directors 282.0.7 to 282.1.0 misread its answers (facts: bosh-contract 1.2)."""


def info() -> dict[str, Any]:
    """What this CPI can do. BOSH asks before every single call, so nothing is looked up."""
    return {"stemcell_formats": list(FORMATS), "api_version": API_VERSION}


def calculate_vm_cloud_properties(wanted: Any) -> dict[str, Any]:
    """cloud_properties of a VM with at least this `cpu`, `ram` (MiB) and `ephemeral_disk_size` (MiB).

    Explicit numbers, not an instance_type: go-lxd-cpi's `c1-m0` for 512 MiB was none.
    """
    keys = ("cpu", "ram", "ephemeral_disk_size")
    given = wanted if isinstance(wanted, dict) else {}
    if any(isinstance(given.get(key), bool) or not isinstance(given.get(key), int) or given[key] < 0 for key in keys):
        raise errors.BadRequest(f"calculate_vm_cloud_properties needs whole numbers for {', '.join(keys)}")
    return {"cpu": given["cpu"], "ram": given["ram"], "ephemeral_disk": given["ephemeral_disk_size"]}


def call(
    request: Request,
    *,
    config_path: str,
    environ: Mapping[str, str],
    log: Log,
    world: tuple[Clock, Transport] | None = None,
) -> Any:
    """Serve a request; answers the result. Raises CpiError.

    `world` stands in for the machine's clock and the configured server: a recording that is played back.
    """
    if request.method == "info":
        return info()
    if request.method == "ping":
        return "pong"
    if request.method == "calculate_vm_cloud_properties":
        _check_arguments(request, 1, 1)
        return calculate_vm_cloud_properties(request.arguments[0])
    method = METHODS.get(request.method)
    if method is None:
        raise errors.MethodNotImplemented(f"this CPI has no method {request.method[:60]}")
    _check_arguments(request, method.least, method.most)
    return _call_server(request, method, config_path=config_path, environ=environ, log=log, world=world)


def reverse(request: bytes, answer: bytes) -> bytes:
    """The request that takes back what this one made, by its answer; empty when it made nothing."""
    result = json.loads(answer)["result"]
    asked = rpc.parse(request) if result else None
    method = METHODS.get(asked.method) if asked else None
    if asked is None or method is None or not method.reverse:
        return b""
    made = result[0] if asked.method == "create_vm" else result
    return json.dumps({"method": method.reverse, "arguments": [made], "context": asked.context}).encode()


def _check_arguments(request: Request, least: int, most: int) -> None:
    if not least <= len(request.arguments) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise errors.BadRequest(f"{request.method} takes {wanted} arguments, not {len(request.arguments)}")


def _call_server(
    request: Request,
    method: Method,
    *,
    config_path: str,
    environ: Mapping[str, str],
    log: Log,
    world: tuple[Clock, Transport] | None,
) -> Any:
    from bosh_lxd_cpi.config import schema
    from bosh_lxd_cpi.runtime.clock import Clock
    from bosh_lxd_cpi.runtime.log import secrets_in

    log.hide(secrets_in(request.arguments))
    log.hide(secrets_in(request.context))
    settings = schema.load(config_path, request.context, warn=log.warn)
    log.hide(settings.secrets())
    log.set_level(settings.log_level)

    from bosh_lxd_cpi.lxd.transport import HttpTransport

    clock, transport = world or (Clock(), HttpTransport(settings.server))

    def act(clock: Clock, transport: Transport) -> Any:
        return _act(request, method, settings, clock=clock, transport=transport, log=log)

    if directory := environ.get("BOSH_LXD_CPI_CAPTURE") or settings.capture.path:
        from bosh_lxd_cpi.protocol import capture

        return capture.call(act, request, settings, directory=directory, clock=clock, transport=transport, log=log)
    return act(clock, transport)


def _act(request: Request, method: Method, settings: Config, *, clock: Clock, transport: Transport, log: Log) -> Any:
    from bosh_lxd_cpi.actions.context import Cpi
    from bosh_lxd_cpi.lxd.client import Client
    from bosh_lxd_cpi.runtime.clock import Deadline

    with contextlib.ExitStack() as stack:
        if method.throttled and settings.throttle_config.enabled:
            try:
                stack.enter_context(_slot(request, settings, log))
            except errors.ThrottleTimeout as failure:
                if request.method != "create_vm":
                    raise
                raise errors.VMCreationFailed(failure.brief, hint=failure.hint, ok_to_retry=True) from failure
        deadline = Deadline(clock, method.deadline, what=request.method)
        client = Client(transport, project=settings.server.project_name, deadline=deadline, log=log)
        cpi = Cpi(config=settings, client=client, clock=clock, log=log, director=request.director)
        module, _, function = method.action.partition(".")
        action = getattr(importlib.import_module(f"bosh_lxd_cpi.actions.{module}"), function)
        started = clock.monotonic()
        try:
            return action(cpi, *request.arguments)
        finally:
            log.info(f"{transport.requests} requests in {clock.monotonic() - started:.2f} s")


def _slot(request: Request, settings: Config, log: Log) -> AbstractContextManager[None]:
    from bosh_lxd_cpi.runtime import throttle

    wanted = settings.throttle_config
    slots = throttle.Settings(
        wanted.enabled,
        settings.lock_directory(),
        wanted.limit,
        throttle.duration(wanted.hold),
        throttle.duration(wanted.wait),
    )
    return throttle.slot(slots, label=f"{request.method} {request.id}", log=log.info)
