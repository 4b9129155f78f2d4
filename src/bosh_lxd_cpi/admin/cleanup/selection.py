"""Finds the resource that an operator names, and refuses those that must not be deleted."""

from __future__ import annotations

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.cleanup.prune import ALL
from bosh_lxd_cpi.admin.inventory import Inventory, Resource
from bosh_lxd_cpi.admin.output import names


def unattached_disk(stock: Inventory, cid: str, director: str) -> Resource:
    """Return the persistent disk with this CID. Raises DiskNotFound, or CloudError if it must not be deleted."""
    disks = _with_cid(stock, inventory.DISK, cid)
    if not disks:
        raise errors.DiskNotFound(f"there is no persistent disk {cid}", code="no_such_disk")
    disk, *copies = disks
    if copies:
        places = ", ".join(disk.place for disk in disks)
        raise errors.CloudError(f"disk {cid} is in {places}, so it is not deleted", code="disk_on_several_members")
    if disk.used_by:
        users = ", ".join(disk.used_by)
        raise errors.CloudError(
            f"disk {cid} is attached to {users}, so it is not deleted", code="attached_delete", pool=disk.pool, disk=cid
        )
    _check_director(stock, disk, director, what=f"disk {cid}")
    return disk


def superseded_stemcell(stock: Inventory, cid: str, director: str) -> Resource:
    """Return the stemcell with this CID. Raises StemcellNotFound, or CloudError if it must not be deleted."""
    stemcells = _with_cid(stock, inventory.IMAGE, cid)
    if not stemcells:
        raise errors.StemcellNotFound(f"there is no stemcell {cid}", code="no_such_stemcell")
    [stemcell] = stemcells
    if stemcell.used_by:
        users = names(stemcell.used_by, "VM")
        raise errors.CloudError(f"stemcell {cid} is used by {users}, so it is not deleted", code="stemcell_in_use")
    if stemcell.state != inventory.SUPERSEDED:
        raise errors.CloudError(
            f"stemcell {cid} is the newest one with its name and version, so it is not deleted", code="newest_stemcell"
        )
    _check_director(stock, stemcell, director, what=f"stemcell {cid}")
    return stemcell


def _with_cid(stock: Inventory, kind: str, cid: str) -> list[Resource]:
    return [resource for resource in stock.resources if (resource.kind, resource.cid) == (kind, cid)]


def _check_director(stock: Inventory, resource: Resource, director: str, *, what: str) -> None:
    if director not in ("", ALL, resource.director) and resource.director != inventory.UNKNOWN_OWNER:
        uuid = stock.directors[resource.director]
        raise errors.CloudError(
            f"{what} belongs to another director, {uuid}", code="resource_of_other_director", director=uuid
        )
