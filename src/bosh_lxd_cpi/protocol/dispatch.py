"""From a request to its result: check the arguments, load the configuration, wait for a slot, run the action."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.protocol import methods
from bosh_lxd_cpi.protocol.methods import METHODS, Method

if TYPE_CHECKING:
    from bosh_lxd_cpi.config.schema import Config
    from bosh_lxd_cpi.lxd.transport import Transport
    from bosh_lxd_cpi.protocol.rpc import Request
    from bosh_lxd_cpi.runtime.clock import Clock
    from bosh_lxd_cpi.runtime.log import Log


class Call:
    """A request with the configuration and the log of its call."""

    def __init__(self, request: Request, method: Method, config: Config, log: Log) -> None:
        self.request, self.method, self.config, self.log = request, method, config, log


def call(
    request: Request,
    *,
    config_path: str,
    environ: Mapping[str, str],
    log: Log,
    clock: Clock | None = None,
    transport: Transport | None = None,
) -> Any:
    """Serve a request and return the result. Raises CpiError, Interrupted.

    A `clock` and a `transport` replace the machine's clock and the configured server, to replay a recording.
    """
    if request.method == "info":
        return methods.info()
    _hide_secrets(request, log)
    if request.method == "ping":
        return "pong"
    if request.method == "calculate_vm_cloud_properties":
        _check_arguments(request, 1, 1)
        return methods.calculate_vm_cloud_properties(request.arguments[0])
    method = METHODS.get(request.method)
    if method is None:
        raise errors.MethodNotImplemented(f"this CPI has no method {log.excerpt(request.method, 60)}")
    _check_arguments(request, method.min_arguments, method.max_arguments)
    config = _load_config(request, config_path, log)
    with contextlib.ExitStack() as stack:
        if transport is None:
            from bosh_lxd_cpi.actions.connection import open_transport

            transport = stack.enter_context(open_transport(config, log=log))
        return _run(
            Call(request, method, config, log),
            clock=clock,
            transport=transport,
            capture_directory=environ.get("BOSH_LXD_CPI_CAPTURE") or config.capture.path,
        )


def _check_arguments(request: Request, minimum: int, maximum: int) -> None:
    if not minimum <= len(request.arguments) <= maximum:
        number = f"{minimum}" if minimum == maximum else f"{minimum} to {maximum}"
        raise errors.BadRequest(f"{request.method} takes {number} arguments, not {len(request.arguments)}")


def _hide_secrets(request: Request, log: Log) -> None:
    from bosh_lxd_cpi.runtime.log import secrets_in

    log.hide(secrets_in(request.arguments))
    log.hide(secrets_in(request.context))


def _load_config(request: Request, path: str, log: Log) -> Config:
    from bosh_lxd_cpi.config import schema

    ignored: list[str] = []
    config = schema.load(path, request.context, warn=log.warn, ignore=ignored.append)
    log.hide(config.secrets())
    log.set_level(config.log_level)
    for key in ignored:
        log.debug(f"the key {log.excerpt(key, 60)} of the request's context is ignored, because it is not a property")
    return config


def _run(call: Call, *, clock: Clock | None, transport: Transport, capture_directory: str) -> Any:
    from bosh_lxd_cpi.runtime.clock import Clock

    clock = clock or Clock()

    def act(clock: Clock, transport: Transport) -> Any:
        with _throttled(call):
            return _act(call, clock=clock, transport=transport)

    if capture_directory:
        from bosh_lxd_cpi.protocol import capture

        return capture.call(
            act,
            call.request,
            config=call.config,
            directory=capture_directory,
            clock=clock,
            transport=transport,
            log=call.log,
        )
    return act(clock, transport)


@contextlib.contextmanager
def _throttled(call: Call) -> Iterator[None]:
    """Hold a throttle slot in this context if the method needs one. Raises ThrottleTimeout or VMCreationFailed."""
    throttle_config = call.config.throttle_config
    if not (call.method.throttled and throttle_config.enabled):
        yield
        return
    from bosh_lxd_cpi.runtime import throttle

    settings = throttle.Settings(
        throttle_config.enabled,
        call.config.lock_directory(),
        throttle_config.limit,
        throttle.duration(throttle_config.hold),
        throttle.duration(throttle_config.wait),
    )
    with contextlib.ExitStack() as stack:
        try:
            label = f"{call.request.method} {call.request.id}"
            stack.enter_context(throttle.slot(settings, label=label, log=call.log.info))
        except errors.ThrottleTimeout as failure:
            if call.request.method != "create_vm":
                raise
            raise errors.VMCreationFailed(failure.brief, ok_to_retry=True, code=failure.code) from failure
        yield


def _act(call: Call, *, clock: Clock, transport: Transport) -> Any:
    """Run the action. Errors get the fields for their hints that only the call knows."""
    from bosh_lxd_cpi.actions.context import Context
    from bosh_lxd_cpi.lxd.client import Client
    from bosh_lxd_cpi.runtime import signals
    from bosh_lxd_cpi.runtime.clock import Deadline

    request, log = call.request, call.log
    deadline = Deadline(clock, call.method.deadline, what=request.method)
    client = Client(transport, project=call.config.server.project_name, deadline=deadline, log=log)
    context = Context(config=call.config, client=client, clock=clock, log=log, director=request.director)
    module, _, function = call.method.action.partition(".")
    action = getattr(importlib.import_module(f"bosh_lxd_cpi.actions.{module}"), function)
    started = clock.monotonic()
    try:
        result = action(context, *request.arguments)
        signals.ignore()  # an error instead of the result would hide a new object from BOSH
        return result
    except errors.CpiError as failure:
        failure.fields = {**context.hint_fields(), **failure.fields}
        raise
    finally:
        log.info(f"{transport.requests} requests in {clock.monotonic() - started:.2f} s")
