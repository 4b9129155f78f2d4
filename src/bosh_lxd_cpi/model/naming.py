"""Names of everything that the CPI creates on the server: CIDs, volumes, devices, and the locks that go with them.

The UUID in a CID tells when and for which director the resource was created. A config drive uploaded as an ISO volume
cannot carry labels, and after its VM is gone its name is the only information left, so cleanup relies on names. The
layout is UUID version 8 (RFC 9562): 48 bits of Unix milliseconds, 26 random bits, 48 bits of the SHA-256 of the
director UUID. The UUIDs of the Go CPI are version 4. The prefixes are those of the Go CPI.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from bosh_lxd_cpi.runtime.clock import Clock

VM, STEMCELL, SNAPSHOT = "vm-", "img-", "snap-"
"""Prefixes of instances, image aliases and snapshots."""
DELETION = "deleting-"
"""Prefix of image aliases that announce the deletion of the image."""
PERSISTENT, EPHEMERAL, CONFIG_DRIVE = "vol-p-", "vol-e-", "vol-c-"
"""Prefixes of volumes, all of the same length."""
SNAPSHOT_SEPARATOR = f"_{SNAPSHOT}"
"""A snapshot's CID is `<disk CID>_<snapshot name>`, because the server needs both names."""

ROOT_DEVICE, EPHEMERAL_DEVICE, CONFIG_DEVICE = "root", "ephemeral", "config"
"""Device names of the disks that every VM has."""
RESERVED_DEVICES = rf"{ROOT_DEVICE}|{CONFIG_DEVICE}|{EPHEMERAL_DEVICE}|eth\d+|p[0-9a-f]{{12}}|persistent-\d+"

UUID = r"([0-9a-f]{8})-([0-9a-f]{4})-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-([0-9a-f]{12})$"
GENERATED_NAME = (
    rf"({VM}|{STEMCELL}|{SNAPSHOT}|vol-[ecp]-)"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[48][0-9a-f]{3}-[4-9ab][0-9a-f]{3}-[0-9a-f]{12}"
)
"""The patterns here are strings, because every call imports this module, and few use the patterns."""


class Origin(NamedTuple):
    """When a resource was created, in Unix seconds, and the digest of its director."""

    created: float
    director: str


def director_digest(director_uuid: str) -> str:
    """Return the twelve hexadecimal digits that stand for a director in UUIDs."""
    return hashlib.sha256(director_uuid.encode(errors="surrogatepass")).hexdigest()[:12]


def new_id(clock: Clock, director_uuid: str) -> str:
    """Return a new UUID for a resource of this director."""
    millis, random = f"{int(clock.time() * 1000):012x}"[-12:], clock.random_hex(7)
    variant = "89ab"[int(random[3], 16) % 4]
    return f"{millis[:8]}-{millis[8:]}-8{random[:3]}-{variant}{random[4:7]}-{director_digest(director_uuid)}"


def origin(name: str) -> Origin | None:
    """Return what the UUID at the end of a name encodes, or None if this CPI did not create the UUID."""
    match = re.search(UUID, name)
    return Origin(int(match[1] + match[2], 16) / 1000, match[3]) if match else None


def is_generated(name: str) -> bool:
    """Return whether this CPI or the Go CPI generated a name. The Go CPI's library sets the variant to 4 up to 7."""
    return re.fullmatch(GENERATED_NAME, name) is not None


def is_reserved_device(name: str) -> bool:
    """Return whether the CPI uses a device name itself. `persistent-N` is the Go CPI's."""
    return re.fullmatch(RESERVED_DEVICES, name) is not None


def vm_cid(uuid: str) -> str:
    """Return the CID of a VM, which is the name of its instance."""
    return f"{VM}{uuid}"


def stemcell_cid(uuid: str) -> str:
    """Return the CID of a stemcell, which is an alias of its image."""
    return f"{STEMCELL}{uuid}"


def deletion_alias(uuid: str) -> str:
    """Return the alias that announces the deletion of its image. Its UUID contains the time."""
    return f"{DELETION}{uuid}"


def disk_cid(uuid: str) -> str:
    """Return the CID of a persistent disk, which is the name of its volume."""
    return f"{PERSISTENT}{uuid}"


def config_drive(uuid: str) -> str:
    """Return the volume name of a config drive."""
    return f"{CONFIG_DRIVE}{uuid}"


def own_volumes(vm_cid: str) -> tuple[str, str]:
    """Return the volume names of a VM's ephemeral disk and config drive.

    They contain the UUID of the VM, so that delete_vm finds them after the VM is gone.
    """
    uuid = vm_cid.removeprefix(VM)
    return f"{EPHEMERAL}{uuid}", config_drive(uuid)


def snapshot_name(uuid: str) -> str:
    """Return the name of a snapshot within its volume."""
    return f"{SNAPSHOT}{uuid}"


def snapshot_cid(disk_cid: str, snapshot: str) -> str:
    """Return the CID of the snapshot with this name of a persistent disk."""
    return f"{disk_cid}_{snapshot}"


def split_snapshot_cid(cid: str) -> tuple[str, str] | None:
    """Return the disk CID and the snapshot name that a snapshot's CID contains, or None if it is not one."""
    disk, separator, uuid = cid.partition(SNAPSHOT_SEPARATOR)
    return (disk, snapshot_name(uuid)) if disk and separator and uuid else None


def persistent_device(disk_cid: str) -> str:
    """Return the name of a persistent disk's device, the same in every VM.

    It has at most 14 characters of [a-z0-9]. With the server's prefix it has 20, the longest serial number that every
    server version passes to the guest unchanged (docs/development/lxd-api.md §4, "Stable guest paths").
    """
    return "p" + hashlib.sha256(disk_cid.encode()).hexdigest()[:12]


def change_lock(cid: str) -> str:
    """Return the name of the lock that a call holds while it changes a VM or a disk.

    Without it detach_disk, which takes seconds, is never able to finish while faster calls change the same VM.
    """
    return f"changes-of-{cid}"


def attachment_lock(disk_cid: str) -> str:
    """Return the name of the lock that a call holds while it attaches a disk."""
    return f"attachment-of-{disk_cid}"


def stemcell_lock(stemcell: str) -> str:
    """Return the name of the lock that a call holds while it imports or deletes a stemcell, or removes its image.

    `stemcell` is name and version as in the description of an alias, where the Go CPI has a hyphen between them. The
    name contains a digest of it, because the length of file names is limited.
    """
    return "stemcell-" + hashlib.sha256(stemcell.replace(" ", "-").encode("utf-8", "replace")).hexdigest()[:12]
