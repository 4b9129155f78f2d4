"""The proof: everything that a deployment does to the server, once, with a tiny image; and nothing of it stays.

All that is made here carries the digest of a director UUID made for this one run, so whatever is left at the end, also
of a step that was cut short, is found by its name.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, TypeVar

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.actions import create_vm, disks, snapshots, stemcells, vms, volumes
from bosh_lxd_cpi.actions.context import Cpi
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.doctor.checks.network import subnet
from bosh_lxd_cpi.admin.doctor.checks.server import LINES
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import FAIL, OK, CheckResult
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime.clock import Deadline

SECONDS = 300.0
"""Time for each step."""
SETTLE = 1.0
QUIET_LOOKS = 3
"""How often in a row, and how many seconds apart, nothing must be left after an interruption: what the server was told
just before may only come into being now."""
MOST_LOOKS = 20
IMAGE_MIB, DISK_MIB = 16, 64
VM = {"cpu": 1, "ram": 128, "root_disk": DISK_MIB, "ephemeral_disk": DISK_MIB}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Report = Callable[[CheckResult], object]
Value = TypeVar("Value")


class _Failed(Exception):
    """A step did not work; the others of its line cannot either."""


class _Interruptible:
    """Turn the first signal into KeyboardInterrupt, wherever it comes, and ignore all that follow."""

    def __enter__(self) -> _Interruptible:
        self.happened = False
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, self._raise)
        return self

    def _raise(self, number: int, frame: object) -> None:
        self.happened = True
        self.ignore()
        raise KeyboardInterrupt

    def ignore(self) -> None:
        """From now on nothing interrupts."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def prove(patient: CheckContext, *, ip: IPv4Address | None, report: Report) -> None:
    """Report a finding for every step. Without `ip` the VMs get the address that DHCP gives them.

    Cleans up before KeyboardInterrupt, or whatever else ends it, goes on. Raises CloudError when something is left.
    """
    cpi = Cpi(
        config=patient.settings._replace(keep_failed_vms=False),
        client=patient.client(),
        clock=patient.clock,
        log=patient.log,
        director=str(uuid.uuid4()),
    )
    networks = {"doctor": _network(patient, ip)}
    with _Interruptible() as interrupt:
        folder = tempfile.mkdtemp()
        try:
            try:
                image = _stemcell(folder)
                for line in LINES:
                    with contextlib.suppress(_Failed):
                        _live(cpi, line, image, networks, report)
            finally:
                interrupt.ignore()  # at most one signal raises, before this or here: what follows is never cut short
        finally:
            shutil.rmtree(folder)
            if interrupt.happened:
                print("doctor: stopped, cleaning up ...", file=sys.stderr)
            _clear(cpi, looks=QUIET_LOOKS if interrupt.happened else 1)
    report(patient.ok("deep", "nothing is left behind"))


def _network(patient: CheckContext, ip: IPv4Address | None) -> dict[str, Any]:
    bridge = subnet(patient.network) if patient.network else None
    if ip is None or bridge is None:
        return {"type": "dynamic", "cloud_properties": {}}
    return {
        "type": "manual",
        "ip": str(ip),
        "netmask": str(bridge.netmask),
        "gateway": str(bridge.ip),
        "dns": [str(bridge.ip)],
        "default": ["dns", "gateway"],
        "cloud_properties": {},
    }


def _stemcell(folder: str) -> str:
    """Path of the tarball of a stemcell whose disk is empty."""
    path = os.path.join(folder, "image")
    member = tarfile.TarInfo("root.img")
    member.size = IMAGE_MIB << 20
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def _live(cpi: Cpi, line: str, image: str, networks: dict[str, Any], report: Report) -> None:
    """The life of a VM of this stemcell line. Raises _Failed after the first step that did not work."""

    def step(what: str, action: Callable[[], Value]) -> Value:
        began = cpi.clock.monotonic()
        cpi.client.deadline = Deadline(cpi.clock, SECONDS, what=what)
        try:
            result = action()
        except errors.CpiError as failure:
            after = f"after {cpi.clock.monotonic() - began:.1f} s: {failure.brief}"
            hint = failure.hint or hints.text("see_server_log", **cpi.client.names)
            report(CheckResult(f"deep {line}", FAIL, f"{what} failed {after}", hint))
            raise _Failed from failure
        report(CheckResult(f"deep {line}", OK, f"{what}: {cpi.clock.monotonic() - began:.1f} s"))
        return result

    about = {
        "name": f"doctor-ubuntu-{line}",
        "version": cpi.director,
        "disk": IMAGE_MIB,
        "disk_format": "raw",
        "architecture": "x86_64",
    }
    stemcell = step("import an image", lambda: stemcells.create_stemcell(cpi, image, about))
    vm, _ = step(
        "make a VM with drive, ephemeral disk and address",
        lambda: create_vm.create_vm(cpi, "doctor", stemcell, VM, networks),
    )
    step("see it run", lambda: _check_running(cpi, vm))
    disk = step("make a disk", lambda: disks.create_disk(cpi, DISK_MIB, {}, vm))
    step("attach it", lambda: disks.attach_disk(cpi, vm, disk))
    snapshot = step("make a snapshot", lambda: snapshots.snapshot_disk(cpi, disk))
    step("delete the snapshot", lambda: snapshots.delete_snapshot(cpi, snapshot))
    step("detach the disk", lambda: disks.detach_disk(cpi, vm, disk))
    step("delete the disk", lambda: disks.delete_disk(cpi, disk))
    step("delete the VM", lambda: vms.delete_vm(cpi, vm))
    step("delete the image", lambda: stemcells.delete_stemcell(cpi, stemcell))


def _check_running(cpi: Cpi, vm: str) -> None:
    status = cpi.client.instance(vm).metadata["status"]
    if status != "Running":
        raise errors.CloudError(f"it is {status}")


def _clear(cpi: Cpi, *, looks: int) -> None:
    """Remove what is left of this run, until nothing was there at so many looks in a row. Raises CloudError."""
    digest, quiet = naming.director_digest(cpi.director), 0
    if looks > 1:
        cpi.clock.sleep(SETTLE)  # for what the server has only just been told to become an operation
    for look in range(MOST_LOOKS):
        cpi.client.deadline = Deadline(cpi.clock, SECONDS, what="cleaning up")
        _await_operations(cpi, digest)
        everything = inventory.read(cpi.client, cpi.config.server.storage_pool_name).resources
        left = [resource for resource in everything if resource.director == digest]
        quiet = 0 if left else quiet + 1
        if quiet == looks:
            return
        for resource in left:
            with contextlib.suppress(errors.CpiError):  # still there at the next look
                _remove(cpi, resource)
        cpi.clock.sleep(SETTLE)
    raise errors.CloudError(
        f"left behind: {', '.join(resource.cid for resource in left) or 'perhaps something'}",
        hint=f"bin/cleanup --director {cpi.director} --min-age 0",
    )


def _await_operations(cpi: Cpi, digest: str) -> None:
    """Wait for what the server still does to resources of this run. Incus 6.0 can never again delete a disk that was
    deleted while a snapshot of it was being made."""
    for operation, urls in operations.pending(cpi.client):
        if digest in str(urls):
            with contextlib.suppress(errors.ServerError):
                operations.wait(cpi.client, operation, what="cleaning up")


def _remove(cpi: Cpi, resource: inventory.Resource) -> None:
    if resource.kind == inventory.VM:
        vms.delete_vm(cpi, resource.cid)
    elif resource.kind == inventory.DISK:
        disks.delete_disk(cpi, resource.cid)
    elif resource.kind in (inventory.EPHEMERAL, inventory.CONFIG):
        volumes.delete_volume(cpi, resource.pool, resource.cid)
    elif resource.kind == inventory.IMAGE and resource.state == inventory.NO_ALIAS:
        cpi.run_operation(lambda: cpi.client.delete_image(resource.cid), what=f"deleting image {resource.cid}")
    elif resource.kind == inventory.IMAGE:
        stemcells.delete_stemcell(cpi, resource.cid)
