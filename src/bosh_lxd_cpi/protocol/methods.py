"""The BOSH methods: the action of each, and the methods that need no server."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.protocol import rpc

MINUTE = 60
MILLISECOND = 0.001
"""The resolution of the time in a CID."""


class Method(NamedTuple):
    """How a BOSH method is served."""

    action: str
    """Module and function in bosh_lxd_cpi.actions."""
    min_arguments: int
    max_arguments: int
    throttled: bool = False
    """Whether the call waits for a throttle slot, because it makes the server work hard."""
    deadline: float = 5 * MINUTE
    """Seconds for the whole call, without the wait for a slot."""
    reverse: str = ""
    """The method that deletes what this one creates."""


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
"""Not 3: directors 282.0.7 to 282.1.0 misread its responses (docs/development/bosh-contract.md §1.2)."""


def info() -> dict[str, Any]:
    """Return the capabilities of this CPI."""
    return {"stemcell_formats": list(FORMATS), "api_version": API_VERSION}


def calculate_vm_cloud_properties(requirements: Any) -> dict[str, Any]:
    """Return cloud_properties of a VM with at least this `cpu`, `ram` (MiB) and `ephemeral_disk_size` (MiB).

    The result has numbers, not an instance_type: the Go CPI returned `c1-m0` for 512 MiB, which is no valid type.
    """
    keys = ("cpu", "ram", "ephemeral_disk_size")
    values = requirements if isinstance(requirements, dict) else {}
    for key in keys:
        value = values.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise errors.BadRequest(f"calculate_vm_cloud_properties needs whole numbers for {', '.join(keys)}")
    return {"cpu": values["cpu"], "ram": values["ram"], "ephemeral_disk": values["ephemeral_disk_size"]}


def reverse(request: bytes, response: bytes, *, started: float) -> bytes:
    """Return the request that deletes what this one created, or nothing if it created nothing.

    `started` is the start of the call in Unix seconds. An older object was created by another call: create_stemcell
    returns a CID that BOSH may have already.
    """
    result = json.loads(response)["result"]
    if not result:
        return b""
    original = rpc.parse(request)
    method = METHODS.get(original.method)
    if method is None or not method.reverse:
        return b""
    cid = result[0] if original.method == "create_vm" else result
    origin = naming.origin(cid)
    if origin and origin.created + MILLISECOND < started:
        return b""
    return json.dumps({"method": method.reverse, "arguments": [cid], "context": original.context}).encode()
