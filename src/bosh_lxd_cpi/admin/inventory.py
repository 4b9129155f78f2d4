"""Lists all resources of BOSH on the server, and says which of them are unused.

The owner of a resource follows from its name (see model/naming.py). The label user.bosh.director_uuid would not be
enough: a config drive that is uploaded as an ISO volume has no labels. The labels supply the UUID for the digest in a
name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import images
from bosh_lxd_cpi.admin.output import count
from bosh_lxd_cpi.admin.stemcells import Stemcell
from bosh_lxd_cpi.lxd import pools, sizes
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.resources import Image, Instance, Snapshot, Volume
from bosh_lxd_cpi.model import labels, naming

VM, DISK, EPHEMERAL, CONFIG, SNAPSHOT, IMAGE = "vm", "disk", "ephemeral", "config", "snapshot", "image"
VOLUME_KINDS = {naming.PERSISTENT: DISK, naming.EPHEMERAL: EPHEMERAL, naming.CONFIG_DRIVE: CONFIG}
VOLUME_PREFIX_LENGTH = len(naming.PERSISTENT)
UUID_LENGTH = 36
UNKNOWN_OWNER = "?"
"""The director of a resource whose UUID does not tell its director, such as those of go-lxd-cpi."""
INCOMPLETE, FAILED, ORPHAN, UNUSED, NO_ALIAS = "incomplete", "failed", "orphan", "unused", "no alias"
SUPERSEDED = "superseded"
"""The state of a stemcell when its director has a later one with the same name and version."""
VM_STATES = {labels.CREATING: INCOMPLETE, labels.FAILED: FAILED}
NO_MEMBER = ("", "none")
"""The location of an object on a server without cluster."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A VM, volume, snapshot or image.

    `director` is a digest or `UNKNOWN_OWNER`. `created` is in Unix seconds, or None if the server does not know. `size`
    is in MiB. `state` says why the resource is unused, and is empty for a resource in use.
    """

    kind: str
    cid: str
    director: str
    created: float | None
    size: float | None = None
    state: str = ""
    pool: str = ""
    location: str = ""
    used_by: tuple[str, ...] = ()
    deployment: str = ""
    instance: str = ""

    @property
    def uuid(self) -> str:
        """The UUID that a VM shares with its own volumes."""
        return self.cid[-UUID_LENGTH:]

    @property
    def place(self) -> str:
        """The pool, with the member in a cluster: `default@node2`."""
        return self.pool if self.location in NO_MEMBER else f"{self.pool}@{self.location}"


@dataclass
class Inventory:
    """All resources, and the errors of those that could not be read.

    `directors` maps the digest of each director to its UUID, or to the digest itself if no label has the UUID.
    `unavailable` are the cluster members that do not respond. `failures` has one error for each of them.
    """

    resources: list[Resource] = field(default_factory=list)
    directors: dict[str, str] = field(default_factory=dict)
    failures: list[errors.CpiError] = field(default_factory=list)
    unavailable: set[str] = field(default_factory=set)

    def own_volumes(self, vm: Resource) -> list[Resource]:
        """Return the volumes that were created with a VM and that no other instance uses."""
        return [
            resource
            for resource in self.resources
            if resource.kind in (EPHEMERAL, CONFIG) and resource.uuid == vm.uuid and set(resource.used_by) <= {vm.cid}
        ]


def read(client: Client, pool: str) -> Inventory:
    """Return all resources except snapshots. Requests: instances, images, pools, and the volumes of each pool.

    `pool` is the configured pool. A pool that cannot be read becomes a failure of the inventory. Raises CpiError.
    """
    inventory = Inventory()
    instances, server_images = _read_instances(client, inventory), client.images()
    volumes = [
        (name, volume) for name in pools.names(client, pool) for volume in _read_volumes(client, name, inventory)
    ]
    vms = {vm.uuid: vm for vm in _vms(instances)}
    stemcells = sorted(_images(server_images, instances), key=lambda image: image.cid)  # Incus lists them unsorted
    inventory.resources = [*vms.values(), *_volumes(volumes, vms), *stemcells]
    digests = {resource.director for resource in inventory.resources} - {UNKNOWN_OWNER}
    uuids = {naming.director_digest(uuid): uuid for uuid in _director_uuids(instances, server_images, volumes) if uuid}
    inventory.directors = {digest: uuids.get(digest, digest) for digest in sorted(digests)}
    return inventory


def _read_instances(client: Client, inventory: Inventory) -> list[Instance]:
    """Return all instances. Those on a cluster member that does not respond have no more than a name."""
    instances = client.instances()
    unreadable = Counter(instance.location for instance in instances if not instance.is_readable)
    for member, number in sorted(unreadable.items()):
        message = f"{count(number, 'VM')} on cluster member {member} cannot be read"
        inventory.failures.append(errors.MemberUnavailable(message, code="member_offline", member=member))
        inventory.unavailable.add(member)
    return instances


def _read_volumes(client: Client, pool: str, inventory: Inventory) -> list[Volume]:
    try:
        return client.volumes(pool)
    except errors.ServerError as failure:
        inventory.failures.append(failure)
        return []


def owner(name: str) -> str:
    """Return the digest of the director that a name belongs to, `UNKNOWN_OWNER`, or "" for a name not of BOSH."""
    if not naming.is_generated(name):
        return ""
    origin = naming.origin(name)
    return origin.director if origin else UNKNOWN_OWNER


def _created(name: str, server_time: str) -> float | None:
    origin = naming.origin(name)
    return origin.created if origin else seconds(server_time)


def seconds(text: str) -> float | None:
    """Return Unix seconds of a time from the server, or None. The server sends the year 1 for an unknown time."""
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)$", text)
    if not match or match[1] < "1971":
        return None
    return datetime.fromisoformat(match[1] + match[2].replace("Z", "+00:00")).timestamp()


def _vms(instances: Iterable[Instance]) -> Iterator[Resource]:
    for instance in instances:
        director = owner(instance.name)
        if not director or not instance.name.startswith(naming.VM):
            continue
        root: dict[str, str] = next(
            (device for device in instance.expanded_devices.values() if device.get("path") == "/"), {}
        )
        deployment, instance_name = labels.instance_of(labels.metadata_of(instance.config))
        yield Resource(
            kind=VM,
            cid=instance.name,
            director=director,
            location=instance.location,
            created=_created(instance.name, instance.created_at),
            size=sizes.mib(root.get("size", "")),
            pool=root.get("pool", ""),
            state=VM_STATES.get(instance.config.get(labels.STATE, ""), ""),
            deployment=deployment,
            instance=instance_name,
        )


def _volumes(volumes: Iterable[tuple[str, Volume]], vms: Mapping[str, Resource]) -> Iterator[Resource]:
    for pool, volume in volumes:
        director, kind = owner(volume.name), VOLUME_KINDS.get(volume.name[:VOLUME_PREFIX_LENGTH], "")
        if not director or not kind:
            continue
        users = tuple(_last_segment(str(url)) for url in volume.used_by)
        vm = vms.get(volume.name[-UUID_LENGTH:]) if kind != DISK else None
        deployment, instance_name = (
            (vm.deployment, vm.instance) if vm else labels.instance_of(labels.metadata_of(volume.config))
        )
        yield Resource(
            kind=kind,
            cid=volume.name,
            director=director,
            pool=pool,
            location=volume.location,
            created=_created(volume.name, volume.created_at),
            used_by=users,
            size=sizes.mib(volume.config.get("size", "")),
            state="" if users else ORPHAN if kind == DISK else UNUSED,
            deployment=deployment,
            instance=instance_name,
        )


def snapshots(client: Client, inventory: Inventory) -> list[Resource]:
    """Return the snapshots of all persistent disks. This takes a request per disk: Incus 7 does not list them."""
    resources: list[Resource] = []
    for disk in inventory.resources:
        if disk.kind == DISK and disk.location not in inventory.unavailable:
            try:
                resources += _snapshots_of(client, disk)
            except errors.ServerError as failure:
                if not failure.transient:
                    raise
                inventory.failures.append(failure)
                inventory.unavailable.add(disk.location)  # also for the next disk
    return resources


def _snapshots_of(client: Client, disk: Resource) -> Iterator[Resource]:
    try:
        snapshots = client.snapshots(disk.pool, disk.cid)
    except (errors.NotFound, errors.Forbidden):
        # The disk was deleted, or LXD refuses a restricted certificate (docs/how-to/authentication.md).
        return
    for snapshot in snapshots:
        name = _last_segment(snapshot.name)  # some servers put the name of the volume before it
        if director := owner(name):
            deployment, instance_name = labels.instance_of(_snapshot_metadata(snapshot))
            yield Resource(
                kind=SNAPSHOT,
                cid=naming.snapshot_cid(disk.cid, name),
                director=director,
                pool=disk.pool,
                size=disk.size,
                location=disk.location,
                created=_created(name, snapshot.created_at),
                deployment=deployment,
                instance=instance_name,
            )


def _images(server_images: Iterable[Image], instances: list[Instance]) -> Iterator[Resource]:
    """Yield one resource for each stemcell CID, of which an image can have several, or for an image without any."""
    stemcells = [
        Stemcell(name, director, _created(name, image.uploaded_at), description, image)
        for image in server_images
        for name, description in image.alias_descriptions.items()
        if name.startswith(naming.STEMCELL) and (director := owner(name))
    ]
    for stemcell in stemcells:
        is_unowned = stemcell.director == UNKNOWN_OWNER
        later = [other.image for other in stemcells if other.supersedes(stemcell, any_director=is_unowned)]
        yield Resource(
            kind=IMAGE,
            cid=stemcell.cid,
            director=stemcell.director,
            created=stemcell.created,
            state=SUPERSEDED if later else "",
            size=stemcell.image.size / (1 << 20),
            used_by=() if stemcell.image in later else _users(instances, stemcell.image),  # a later CID keeps it
        )
    for image in server_images:
        director_uuid = labels.image_director(image.document)
        if director_uuid is not None and not images.stemcell_aliases(image.alias_names):
            yield Resource(
                kind=IMAGE,
                cid=image.fingerprint,
                director=naming.director_digest(director_uuid),
                created=seconds(image.uploaded_at),
                state=NO_ALIAS,
                size=image.size / (1 << 20),
                used_by=_users(instances, image),
            )


def _users(instances: Iterable[Instance], image: Image) -> tuple[str, ...]:
    """Return the names of the VMs that were created from an image."""
    return tuple(vm.name for vm in instances if vm.config.get("volatile.base_image") == image.fingerprint)


def _last_segment(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _snapshot_metadata(snapshot: Snapshot) -> dict[str, str]:
    """Return the metadata of a snapshot, which is JSON in its description."""
    try:
        metadata = json.loads(snapshot.description)
    except ValueError:
        return {}
    return {key: str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def _director_uuids(
    instances: Iterable[Instance], server_images: Iterable[Image], volumes: Iterable[tuple[str, Volume]]
) -> set[str]:
    """Return the director UUIDs in the labels of all objects."""
    configs = [*(instance.config for instance in instances), *(volume.config for _, volume in volumes)]
    return {
        *(config.get(labels.DIRECTOR, "") for config in configs),
        *(labels.image_director(image.document) or "" for image in server_images),
    }
