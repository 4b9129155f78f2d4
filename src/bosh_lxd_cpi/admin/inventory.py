"""Everything on the server that BOSH made, read in one sweep.

The name says whose a resource is (see `ids`). The mark user.bosh.director_uuid alone could not: a config drive uploaded as
an ISO volume carries none. The marks tell which UUID a digest in a name stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.lxd import pools, sizes
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.model import labels, naming

VM, DISK, EPHEMERAL, CONFIG, SNAPSHOT, IMAGE = "vm", "disk", "ephemeral", "config", "snapshot", "image"
VOLUMES = {naming.PERSISTENT: DISK, naming.EPHEMERAL: EPHEMERAL, naming.CONFIG_DRIVE: CONFIG}
UNKNOWN_OWNER = "?"
"""In place of a director: named in our manner, but with a UUID that says nothing, as go-lxd-cpi's."""
INCOMPLETE, FAILED, ORPHAN, UNUSED, NO_ALIAS = "half-made", "failed", "orphan", "unused", "no alias"
VM_STATES = {labels.CREATING: INCOMPLETE, labels.FAILED: FAILED}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A VM, volume, snapshot or image.

    `director` is its digest or `UNKNOWN_OWNER`, `created` Unix seconds or None where the server does not know either, `size`
    MiB; `state` says why nobody needs the resource, and is empty when somebody does.
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
        """What a VM's name and those of its own volumes have in common."""
        return self.cid[-36:]

    @property
    def place(self) -> str:
        """The pool, and in a cluster on which member: `default@node2`."""
        return f"{self.pool}@{self.location}" if self.location not in ("", "none") else self.pool


@dataclass
class Inventory:
    """All resources, the UUIDs (or else the digests) of their directors by digest, and what could not be read."""

    resources: list[Resource] = field(default_factory=list)
    directors: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def own_volumes(self, vm: Resource) -> list[Resource]:
        """The volumes that a VM brought along and nobody else uses."""
        return [
            resource
            for resource in self.resources
            if resource.kind in (EPHEMERAL, CONFIG) and resource.uuid == vm.uuid and set(resource.used_by) <= {vm.cid}
        ]


def read(client: Client, pool: str) -> Inventory:
    """Requests: instances, images, pools, and the volumes of each pool. Raises CpiError, but goes on without a pool
    that cannot be read."""
    found = Inventory()
    instances, images = _listed(client, found), client.images().metadata
    volumes = [(name, volume) for name in pools.names(client, pool) for volume in _volumes(client, name, found)]
    vms = {vm.uuid: vm for vm in _instances(instances)}
    stemcells = sorted(_images(images, instances), key=lambda resource: resource.cid)  # Incus lists images in no order
    found.resources = [*vms.values(), *_of_pools(volumes, vms), *stemcells]
    found.directors = _directors(
        {resource.director for resource in found.resources} - {UNKNOWN_OWNER}, instances, images, volumes
    )
    return found


def _listed(client: Client, found: Inventory) -> list[dict[str, Any]]:
    """All instances. Of those on a cluster member that does not answer the server knows little more than the name."""
    instances = client.instances().metadata
    if unread := [instance["name"] for instance in instances if instance["config"] is None]:
        found.failures.append(
            f"not to be read now: {', '.join(unread)}. {hints.text('member_offline', **client.names)}"
        )
    return [{**instance, "config": instance["config"] or {}} for instance in instances]


def _volumes(client: Client, pool: str, found: Inventory) -> list[dict[str, Any]]:
    try:
        return client.volumes(pool).metadata
    except errors.ServerError as failure:
        found.failures.append(failure.message)
        return []


def owner(name: str) -> str:
    """The digest of the director that a name belongs to, `UNKNOWN_OWNER`, or nothing for what is no name of BOSH's."""
    if not naming.NAME.fullmatch(name):
        return ""
    origin = naming.origin(name)
    return origin.director if origin else UNKNOWN_OWNER


def _created(name: str, *others: str) -> float | None:
    origin = naming.origin(name)
    times = (seconds(text) for text in others)
    return origin.created if origin else next((time for time in times if time), None)


def seconds(text: str) -> float | None:
    """Unix seconds of a time as the server writes it; None for the year 1, by which it means that it does not know."""
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)$", text)
    if not match or match[1] < "1971":
        return None
    return datetime.fromisoformat(match[1] + match[2].replace("Z", "+00:00")).timestamp()


def _instances(instances: Iterable[dict[str, Any]]) -> Iterator[Resource]:
    for instance in instances:
        if (director := owner(instance["name"])) and instance["name"].startswith(naming.VM):
            config, devices = instance["config"], (instance.get("expanded_devices") or {}).values()
            root = next((device for device in devices if device.get("path") == "/"), {})
            yield Resource(
                kind=VM,
                cid=instance["name"],
                director=director,
                location=instance.get("location") or "",
                created=_created(instance["name"], instance.get("created_at") or ""),
                size=sizes.mib(root.get("size", "")),
                pool=root.get("pool", ""),
                state=VM_STATES.get(config.get(labels.STATE, ""), ""),
                **_tags(labels.metadata_of(config)),
            )


def _of_pools(volumes: Iterable[tuple[str, dict[str, Any]]], vms: Mapping[str, Resource]) -> Iterator[Resource]:
    for pool, volume in volumes:
        name, users = volume["name"], tuple(_last(url) for url in volume.get("used_by") or ())
        if (director := owner(name)) and name[:6] in VOLUMES:
            kind = VOLUMES[name[:6]]
            vm = vms.get(name[-36:]) if kind != DISK else None
            about = (
                {"deployment": vm.deployment, "instance": vm.instance}
                if vm
                else _tags(labels.metadata_of(volume["config"]))
            )
            yield Resource(
                kind=kind,
                cid=name,
                director=director,
                pool=pool,
                location=volume.get("location") or "",
                created=_created(name, volume.get("created_at") or ""),
                used_by=users,
                size=sizes.mib(volume["config"].get("size", "")),
                state="" if users else ORPHAN if kind == DISK else UNUSED,
                **about,
            )


def snapshots(client: Client, found: Inventory) -> list[Resource]:
    """The snapshots of all persistent disks: a request for each disk. Incus 7 does not list them with the volumes."""
    taken: list[Resource] = []
    away: set[str] = set()
    for disk in found.resources:
        if disk.kind == DISK and disk.location not in away:
            try:
                taken += _snapshots_of(client, disk)
            except errors.Busy as failure:  # its cluster member does not answer, and would not for the next disk either
                found.failures.append(failure.message)
                away.add(disk.location)
    return taken


def _snapshots_of(client: Client, disk: Resource) -> Iterator[Resource]:
    try:
        listed = client.snapshots(disk.pool, disk.cid).metadata
    except errors.NotFound:
        return  # the disk has been deleted meanwhile
    except errors.Untrusted:
        return  # a restricted certificate, and LXD 5.21.3 or later (docs/authentication.md)
    for snapshot in listed:
        name = _last(snapshot["name"])  # what comes before it is the volume's
        if director := owner(name):
            yield Resource(
                kind=SNAPSHOT,
                cid=naming.snapshot_cid(disk.cid, name),
                director=director,
                pool=disk.pool,
                size=disk.size,
                location=disk.location,
                created=_created(name, snapshot.get("created_at") or ""),
                **_tags(_metadata(snapshot)),
            )


def _images(images: Iterable[dict[str, Any]], instances: list[dict[str, Any]]) -> Iterator[Resource]:
    """One resource for every stemcell CID; several of them may share an image. An image without any is one by itself."""
    for image in images:
        users = tuple(
            instance["name"]
            for instance in instances
            if instance["config"].get("volatile.base_image") == image["fingerprint"]
        )
        aliases = [alias["name"] for alias in image.get("aliases") or ()]
        maker = labels.image_director(image)
        about = {"kind": IMAGE, "size": image["size"] / (1 << 20), "used_by": users}
        uploaded = image.get("uploaded_at") or ""
        for alias in aliases:
            if alias.startswith(naming.STEMCELL) and owner(alias):
                yield Resource(cid=alias, director=owner(alias), created=_created(alias, uploaded), **about)
        if maker is not None and not aliases:
            yield Resource(
                cid=image["fingerprint"],
                director=naming.director_digest(maker),
                created=seconds(uploaded),
                state=NO_ALIAS,
                **about,
            )


def _last(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _metadata(snapshot: dict[str, Any]) -> dict[str, str]:
    """A snapshot's metadata is JSON in its description."""
    try:
        metadata = json.loads(snapshot.get("description") or "")
    except ValueError:
        return {}
    return {key: str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Deployment and instance as BOSH's metadata for VMs, disks and snapshots name them, each in its own way."""
    group = tags.get("instance_group") or tags.get("job") or tags.get("compiling", "")
    which = tags.get("instance_index") or tags.get("index") or tags.get("instance_id") or tags.get("id") or ""
    instance = "/".join(filter(None, [group, which])) if group else ""
    return {"deployment": tags.get("deployment", ""), "instance": instance}


def _directors(
    digests: set[str],
    instances: Iterable[dict[str, Any]],
    images: Iterable[dict[str, Any]],
    volumes: Iterable[tuple[str, dict[str, Any]]],
) -> dict[str, str]:
    marks = {item["config"].get(labels.DIRECTOR, "") for item in (*instances, *(volume for _, volume in volumes))}
    marks |= {labels.image_director(image) or "" for image in images}
    uuids = {naming.director_digest(mark): mark for mark in marks if mark}
    return {digest: uuids.get(digest, digest) for digest in sorted(digests)}
