"""bin/doctor --deep: does once what a deployment does on the server, with a tiny image, and removes everything again.

All resources of a run carry the digest of a director UUID that is new for this run. So what is left at the end, even
after an interrupted step, is identified by its name.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import create_vm, disks, images, snapshots, stemcells, vms, volumes
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.doctor.checks.network import subnet
from bosh_lxd_cpi.admin.doctor.checks.server import STEMCELL_LINES
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.session import DEFAULT_RETRY
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime import signals
from bosh_lxd_cpi.runtime.clock import Deadline

STEP_SECONDS = 300.0
"""Time for each step."""
PAUSE_SECONDS = 1.0
CHECKS_AFTER_INTERRUPTION = 3
"""After an interruption, the server may still start an operation that was requested just before. So only so many
checks in a row that show no resources end the cleanup."""
MAX_CHECKS = 20
IMAGE_MIB, DISK_MIB = 16, 64
VM_PROPERTIES = {"cpu": 1, "ram": 128, "root_disk": DISK_MIB, "ephemeral_disk": DISK_MIB}

Report = Callable[[CheckResult], object]
Value = TypeVar("Value")


class _StepError(Exception):
    """A step failed, so the remaining steps of its stemcell line are skipped."""


def run(context: CheckContext, *, ip: IPv4Address | None, report: Report) -> None:
    """Report a result for each step. The VMs get the address `ip`, or one from DHCP if it is None.

    Removes all resources, also when an exception ends the run. Raises Interrupted after a signal, and CloudError if
    resources are left.
    """
    actions = Context(
        config=context.config._replace(keep_failed_vms=False),
        client=context.client(retry=DEFAULT_RETRY),
        clock=context.clock,
        log=context.log,
        director=str(uuid.uuid4()),
    )
    networks, checks, folder = {"doctor": _network(context, ip)}, 1, tempfile.mkdtemp()
    try:
        with signals.interruptible(keep_ignored=True):
            image = _write_stemcell(Path(folder))
            for line in STEMCELL_LINES:
                try:
                    _Run(context, actions, line, report).run_all(image, networks)
                except _StepError:  # a VM that is left has the address that the next one gets
                    _remove_all(actions, checks=1)
    except errors.Interrupted:
        checks = CHECKS_AFTER_INTERRUPTION
        print("doctor: stopped, cleaning up ...", file=sys.stderr)
        raise
    finally:  # signals are ignored from here on
        shutil.rmtree(folder)
        _remove_all(actions, checks=checks)
    report(context.ok("deep", "all resources are removed"))


def _network(context: CheckContext, ip: IPv4Address | None) -> dict[str, Any]:
    interface = subnet(context.network) if context.network else None
    if ip is None or interface is None:
        return {"type": "dynamic", "cloud_properties": {}}
    return {
        "type": "manual",
        "ip": str(ip),
        "netmask": str(interface.netmask),
        "gateway": str(interface.ip),
        "dns": [str(interface.ip)],
        "default": ["dns", "gateway"],
        "cloud_properties": {},
    }


def _write_stemcell(folder: Path) -> str:
    """Write the tarball of a stemcell with an empty disk, and return its path."""
    path = folder / "image"
    member = tarfile.TarInfo("root.img")
    member.size = IMAGE_MIB << 20
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    return str(path)


class _Run:
    """The steps for one stemcell line."""

    def __init__(self, context: CheckContext, actions: Context, line: str, report: Report) -> None:
        self._context, self._actions, self._line, self._report = context, actions, line, report

    def run_all(self, image: str, networks: dict[str, Any]) -> None:
        """Create, use and delete a VM and a disk. Raises _StepError after the first step that fails."""
        step = self._step
        properties = {
            "name": f"doctor-ubuntu-{self._line}",
            "version": self._actions.director,
            "disk": IMAGE_MIB,
            "disk_format": "raw",
            "architecture": "x86_64",
        }
        stemcell = step("import an image", lambda actions: stemcells.create_stemcell(actions, image, properties))
        vm, _ = step(
            "create a VM with config drive, ephemeral disk and address",
            lambda actions: create_vm.create_vm(actions, "doctor", stemcell, VM_PROPERTIES, networks),
        )
        step("check that the VM runs", lambda actions: _check_running(actions, vm))
        disk = step("create a disk", lambda actions: disks.create_disk(actions, DISK_MIB, {}, vm))
        step("attach the disk", lambda actions: disks.attach_disk(actions, vm, disk))
        snapshot = step("create a snapshot", lambda actions: snapshots.snapshot_disk(actions, disk))
        step("delete the snapshot", lambda actions: snapshots.delete_snapshot(actions, snapshot))
        step("detach the disk", lambda actions: disks.detach_disk(actions, vm, disk))
        step("delete the disk", lambda actions: disks.delete_disk(actions, disk))
        step("delete the VM", lambda actions: vms.delete_vm(actions, vm))
        step("delete the image", lambda actions: stemcells.delete_stemcell(actions, stemcell))

    def _step(self, name: str, action: Callable[[Context], Value]) -> Value:
        begin, check = self._context.clock.monotonic(), f"deep {self._line}"
        try:
            with self._context.progress(f"{check}: {name}"):
                value = action(_with_deadline(self._actions, what=name))
        except errors.CpiError as failure:
            if isinstance(failure.__cause__, errors.Interrupted):  # create_vm converts it for the director
                raise failure.__cause__ from None
            seconds = self._context.clock.monotonic() - begin
            message = f"{name} failed after {seconds:.1f} s: {failure.brief}"
            self._report(self._context.error(check, failure, message=message))
            raise _StepError from failure
        self._report(self._context.ok(check, f"{name}: {self._context.clock.monotonic() - begin:.1f} s"))
        return value


def _with_deadline(actions: Context, *, what: str) -> Context:
    return actions.with_deadline(Deadline(actions.clock, STEP_SECONDS, what=what))


def _check_running(actions: Context, vm: str) -> None:
    status = actions.client.instance(vm).status
    if status != "Running":
        raise errors.CloudError(f"the status of the VM is {status}")


def _remove_all(actions: Context, *, checks: int) -> None:
    """Remove the resources of this run until so many checks in a row show none. Raises CloudError if some are left."""
    digest, checks_without, remaining = naming.director_digest(actions.director), 0, []
    if checks > 1:
        actions.clock.sleep(PAUSE_SECONDS)  # a request that was just sent has to become an operation first
    for _ in range(MAX_CHECKS):
        step = _with_deadline(actions, what="the removal of all resources")
        _wait_for_operations(step, digest)
        stock = inventory.read(step.client, step.config.server.storage_pool_name)
        remaining = [resource for resource in stock.resources if resource.director == digest]
        checks_without = 0 if remaining else checks_without + 1
        if checks_without == checks:
            return
        for resource in remaining:
            with contextlib.suppress(errors.CpiError):  # the next check shows it again
                _remove(step, resource)
        actions.clock.sleep(PAUSE_SECONDS)
    names = ", ".join(resource.cid for resource in remaining) or "unknown"
    raise errors.CloudError(
        f"resources are left on the server: {names}", code="leftovers_of_smoke_test", director=actions.director
    )


def _wait_for_operations(actions: Context, digest: str) -> None:
    """Wait for the operations on resources of this run.

    Incus 6.0 can never delete a disk that was deleted while the server created a snapshot of it.
    """
    for operation in operations.pending(actions.client):
        if any(digest in url for url in operation.object_urls):
            with contextlib.suppress(errors.ServerError):
                operations.wait(actions.client, Response(None, operation.path, ""), what="the removal of all resources")


def _remove(actions: Context, resource: inventory.Resource) -> None:
    if resource.kind == inventory.VM:
        vms.delete_vm(actions, resource.cid)
    elif resource.kind == inventory.DISK:
        disks.delete_disk(actions, resource.cid)
    elif resource.kind in (inventory.EPHEMERAL, inventory.CONFIG):
        volumes.delete_volume(actions, resource.pool, resource.cid)
    elif resource.kind == inventory.IMAGE and resource.state == inventory.NO_ALIAS:
        images.delete_unused(actions, resource.cid)
    elif resource.kind == inventory.IMAGE:
        stemcells.delete_stemcell(actions, resource.cid)
