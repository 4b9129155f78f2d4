from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.lxd.resources import Image, Instance, Snapshot, StoragePool, Volume
from bosh_lxd_cpi.model import naming

DIRECTOR = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"
DIGEST = naming.director_digest(DIRECTOR)
CREATED = 0x01A2030BDA83 / 1000


def own(number: int, digest: str = DIGEST) -> str:
    """One of the UUIDs that a director's resources have, all made in the same millisecond."""
    return f"01a2030b-da83-8{number:03x}-9150-{digest}"


def legacy(number: int) -> str:
    """A UUID such as go-lxd-cpi gives: version 4, in a variant that RFC 9562 does not know."""
    return f"5145e068-9581-4bba-4140-{number:012x}"


class Server:
    """A fake client, because no real server fails to list a single pool, or is a cluster on one machine."""

    def __init__(self, *, instances=(), images=(), **pools) -> None:
        self._instances, self._images, self._pools = list(instances), list(images), pools
        self.disk_snapshots: dict[str, tuple] = {}

    def instances(self) -> list[Instance]:
        return [Instance(document, endpoint="instances") for document in self._instances]

    def images(self) -> list[Image]:
        return [Image(document, endpoint="images") for document in self._images]

    def pools(self) -> list[StoragePool]:
        return [StoragePool({"name": name}, endpoint="pools") for name in self._pools]

    def volumes(self, pool: str) -> list[Volume]:
        if isinstance(self._pools.get(pool), Exception):
            raise self._pools[pool]
        return [Volume(document, endpoint="volumes") for document in self._pools.get(pool, [])]

    def snapshots(self, pool: str, disk: str) -> list[Snapshot]:
        if disk not in self.disk_snapshots:
            raise errors.NotFound("Storage pool volume not found")
        if isinstance(self.disk_snapshots[disk], Exception):
            raise self.disk_snapshots[disk]
        return [Snapshot(document, endpoint="snapshots") for document in self.disk_snapshots[disk]]


def instance(name, **config):
    return {
        "name": name,
        "config": config,
        "expanded_devices": {"root": {"path": "/", "pool": "default", "size": "3GiB"}, "eth0": {"type": "nic"}},
        "location": "none",
        "created_at": "2026-01-31T10:00:00.123456789Z",
    }


def volume(name, *, used_by=(), **more):
    return {
        "name": name,
        "config": {"size": "64MiB"},
        "description": "",
        "used_by": list(used_by),
        "location": "none",
        "created_at": "2026-01-31T10:00:00Z",
        **more,
    }


def only_resource(server: Server) -> inventory.Resource:
    [resource] = inventory.read(server, "default").resources
    return resource


def test_reads_a_vm_from_name_and_labels():
    cid = f"vm-{own(1)}"
    stock = inventory.read(
        Server(
            instances=[
                instance(
                    cid,
                    **{
                        "user.bosh.director_uuid": DIRECTOR,
                        "user.bosh.deployment": "zookeeper",
                        "user.bosh.job": "zk",
                        "user.bosh.index": "2",
                    },
                )
            ]
        ),
        "default",
    )
    assert stock.resources == [
        inventory.Resource(
            kind="vm",
            cid=cid,
            director=DIGEST,
            created=CREATED,
            size=3072.0,
            pool="default",
            location="none",
            deployment="zookeeper",
            instance="zk/2",
        )
    ]
    assert stock.directors == {DIGEST: DIRECTOR}


def test_ignores_the_name_of_the_director():
    marks = {"user.bosh.director": "my-bosh"}
    stock = inventory.read(Server(instances=[instance(f"vm-{own(1)}", **marks)]), "default")
    assert [resource.director for resource in stock.resources] == [DIGEST]
    assert stock.directors == {DIGEST: DIGEST}, "no label has the UUID"


def test_one_label_supplies_the_uuid_of_a_director():
    stock = inventory.read(
        Server(
            default=[
                volume(f"vol-c-{own(1)}"),
                volume(f"vol-p-{own(2)}", config={"user.bosh.director_uuid": DIRECTOR}),
            ]
        ),
        "default",
    )
    assert stock.directors == {DIGEST: DIRECTOR}


def test_reads_the_state_of_a_vm_from_its_label():
    for label, state in {"creating": "incomplete", "created": "", "failed": "failed"}.items():
        vm = instance(f"vm-{own(1)}", **{"user.bosh.state": label})
        assert only_resource(Server(instances=[vm])).state == state


@pytest.mark.parametrize(
    "prefix, kind, state",
    [("vol-c-", "config", "unused"), ("vol-e-", "ephemeral", "unused"), ("vol-p-", "disk", "orphan")],
)
def test_reads_whether_a_volume_is_used(prefix, kind, state):
    free = only_resource(Server(fast=[volume(prefix + own(1))]))
    assert (free.kind, free.state, free.pool, free.created, free.size) == (kind, state, "fast", CREATED, 64.0)
    taken = only_resource(
        Server(fast=[volume(prefix + own(1), used_by=["/1.0/instances/vm-x?project=bosh", "/1.0/profiles/p"])])
    )
    assert (taken.state, taken.used_by) == ("", ("vm-x", "p"))


def test_own_volumes_have_the_deployment_of_their_vm():
    vm = instance(
        f"vm-{own(1)}", **{"user.bosh.deployment": "web", "user.bosh.instance_group": "nginx", "user.bosh.index": "0"}
    )
    user = [f"/1.0/instances/vm-{own(1)}"]
    stock = inventory.read(
        Server(
            instances=[vm],
            default=[
                volume(f"vol-c-{own(1)}", used_by=user),
                volume(f"vol-e-{own(1)}", used_by=["/1.0/instances/other"]),
                volume(f"vol-p-{own(2)}", used_by=user),
                volume(f"vol-c-{own(3)}"),
            ],
        ),
        "default",
    )
    vm, drive, ephemeral, *_ = stock.resources
    assert (drive.deployment, drive.instance) == ("web", "nginx/0")
    assert ephemeral.used_by == ("other",)
    assert stock.own_volumes(vm) == [drive], "another instance uses the ephemeral disk"


def only_snapshot(*listed) -> inventory.Resource:
    server = Server(
        default=[volume(f"vol-p-{own(1)}"), volume(f"vol-p-{own(1)}/snap-{own(2)}"), volume(f"vol-c-{own(3)}")]
    )
    server.disk_snapshots = {f"vol-p-{own(1)}": listed}
    [resource] = inventory.snapshots(server, inventory.read(server, "default"))
    return resource


def snapshot(name, description=""):
    return {"name": f"vol-p-{own(1)}/{name}", "description": description, "created_at": "2026-01-31T10:00:00Z"}


def test_reads_a_snapshot_from_name_and_description():
    described = '{"director_uuid": "x", "deployment": "db", "job": "pg", "index": 0}'
    resource = only_snapshot(snapshot(f"snap-{own(2)}", described), snapshot("before-upgrade"))
    assert resource == inventory.Resource(
        kind="snapshot",
        cid=f"vol-p-{own(1)}_snap-{own(2)}",
        director=DIGEST,
        created=CREATED,
        size=64.0,
        pool="default",
        location="none",
        deployment="db",
        instance="pg/0",
    )


@pytest.mark.parametrize("description", ["", "by hand", "[1]", "null"])
def test_ignores_snapshot_descriptions_without_metadata(description):
    resource = only_snapshot(snapshot(f"snap-{legacy(2)}", description))
    assert (resource.director, resource.created, resource.deployment) == ("?", 1769853600.0, "")


def test_lists_no_snapshots_of_a_deleted_disk():
    server = Server(default=[volume(f"vol-p-{own(1)}")])
    assert inventory.snapshots(server, inventory.read(server, "default")) == []


def test_lists_no_snapshots_if_forbidden():
    server = Server(default=[volume(f"vol-p-{own(1)}")])
    server.disk_snapshots = {f"vol-p-{own(1)}": errors.Forbidden("No entitlements can be granted")}
    assert inventory.snapshots(server, inventory.read(server, "default")) == []


@pytest.mark.parametrize(
    "name",
    [
        "vm-web",
        "vol-c-notes",
        f"vol-c-{own(1)}-copy",
        f"data-{own(1)}",
        f"vol-x-{own(1)}",
        f"my-vol-e-{own(1)}",
        f"vol-p-{own(1)}/before-upgrade",
        f"img-{own(1)}",
        f"snap-{own(1)}",
    ],
)
def test_ignores_other_names(name):
    assert inventory.read(Server(instances=[instance(name)], default=[volume(name)]), "default").resources == []


def test_does_not_confuse_vms_and_volumes_of_the_same_name():
    assert (
        inventory.read(
            Server(instances=[instance(f"vol-c-{own(1)}")], default=[volume(f"vm-{own(1)}")]), "default"
        ).resources
        == []
    )


def test_resources_of_go_lxd_cpi_have_an_unknown_owner():
    stock = inventory.read(
        Server(
            instances=[instance(f"vm-{legacy(1)}", **{"user.bosh.director_uuid": DIRECTOR})],
            default=[volume(f"vol-c-{legacy(2)}")],
            images=[image(f"img-{legacy(3)}")],
        ),
        "default",
    )
    assert [(resource.kind, resource.director) for resource in stock.resources] == [
        ("vm", "?"),
        ("config", "?"),
        ("image", "?"),
    ]
    assert {resource.created for resource in stock.resources} == {1769853600.0}, "from the server"
    assert stock.directors == {}


def image(*aliases, fingerprint="f00d", properties=None, uploaded_at="2026-01-31T10:00:00Z", description=""):
    return {
        "fingerprint": fingerprint,
        "aliases": [{"name": name, "description": description} for name in aliases],
        "size": 3 << 20,
        "uploaded_at": uploaded_at,
        "properties": properties,
    }


def test_lists_an_image_once_for_each_stemcell_cid():
    vm = instance(f"vm-{own(1)}", **{"volatile.base_image": "f00d"})
    other = naming.director_digest("another")
    stock = inventory.read(
        Server(
            instances=[vm, instance("web")],
            images=[image(f"img-{own(3, other)}", "ubuntu", f"img-{own(2)}", properties={"bosh.director": DIRECTOR})],
        ),
        "default",
    )
    images = stock.resources[1:]
    assert [(resource.cid, resource.director) for resource in images] == [
        (f"img-{own(2)}", DIGEST),
        (f"img-{own(3, other)}", other),
    ]
    assert all((resource.used_by, resource.size, resource.state) == ((vm["name"],), 3.0, "") for resource in images)


def stemcells(*images, **more) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return state and users of each stemcell CID."""
    stock = inventory.read(Server(images=images, **more), "default")
    return {
        resource.cid: (resource.state, resource.used_by) for resource in stock.resources if resource.kind == "image"
    }


def later(number: int, digest: str = DIGEST) -> str:
    """One of the UUIDs of a second later."""
    return f"01a2030b-de6b-8{number:03x}-9150-{digest}"


def test_a_stemcell_is_superseded_by_a_later_one_of_its_director():
    other = naming.director_digest("another")
    vm = instance(f"vm-{own(1)}", **{"volatile.base_image": "f00d"})
    assert stemcells(
        image(f"img-{own(1)}", f"img-{own(2, other)}", description="noble 1"),
        image(f"img-{later(3)}", fingerprint="beef", description="noble 1"),
        image(f"img-{own(4)}", fingerprint="cafe", description="noble 2"),
        image(f"img-{own(5)}", fingerprint="feed", description="light: noble 1"),
        instances=[vm],
    ) == {
        f"img-{own(1)}": ("superseded", (vm["name"],)),
        f"img-{own(2, other)}": ("", (vm["name"],)),
        f"img-{later(3)}": ("", ()),
        f"img-{own(4)}": ("", ()),
        f"img-{own(5)}": ("", ()),
    }


def test_no_vm_uses_a_stemcell_whose_image_a_later_one_keeps():
    vm = instance(f"vm-{own(1)}", **{"volatile.base_image": "f00d"})
    assert stemcells(image(f"img-{own(1)}", f"img-{later(2)}", description="noble 1"), instances=[vm]) == {
        f"img-{own(1)}": ("superseded", ()),
        f"img-{later(2)}": ("", (vm["name"],)),
    }


def test_any_director_supersedes_a_stemcell_of_the_go_cpi():
    assert stemcells(
        image(f"img-{legacy(1)}", description="noble-1"),
        image(f"img-{later(2)}", fingerprint="beef", description="noble 1"),
    ) == {f"img-{legacy(1)}": ("superseded", ()), f"img-{later(2)}": ("", ())}


def test_lists_an_image_whose_deletion_was_interrupted():
    deletion = naming.deletion_alias(own(1))
    assert stemcells(image(deletion, properties={"bosh.director": DIRECTOR})) == {"f00d": ("no alias", ())}


def test_lists_an_image_without_alias_by_fingerprint():
    resource = only_resource(Server(images=[image(properties={"bosh.director": DIRECTOR})]))
    assert (resource.cid, resource.director, resource.created, resource.state) == (
        "f00d",
        DIGEST,
        1769853600.0,
        "no alias",
    )


def test_ignores_other_images():
    assert (
        inventory.read(
            Server(
                images=[
                    image(),
                    image("ubuntu"),
                    image("ubuntu", properties={"bosh.director": DIRECTOR}),
                    image("img-x", properties={"description": "x"}),
                ]
            ),
            "default",
        ).resources
        == []
    )


def test_continues_after_an_unreadable_pool():
    stock = inventory.read(
        Server(broken=errors.ServerError("pool broken is unavailable"), good=[volume(f"vol-p-{own(1)}")]), "default"
    )
    assert [resource.pool for resource in stock.resources] == ["good"]
    assert [str(failure) for failure in stock.failures] == ["pool broken is unavailable"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2026-01-31T10:00:00Z", 1769853600.0),
        ("2026-01-31T12:00:00.987654321+02:00", 1769853600.0),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_parses_times_of_the_server(text, expected):
    assert inventory.seconds(text) == expected


def test_lists_vms_on_an_offline_member():
    cid, image = (
        f"vm-{own(1)}",
        {"fingerprint": "f" * 64, "size": 1, "aliases": [], "properties": {"bosh.director": DIRECTOR}},
    )
    away = {**instance(cid), "config": None, "expanded_devices": None, "location": "m2", "status": "Error"}
    drive = volume(f"vol-c-{own(1)}", used_by=[f"/1.0/instances/{cid}"])
    stock = inventory.read(Server(instances=[away], images=[image], default=[drive]), "default")
    assert [(resource.kind, resource.state, resource.location) for resource in stock.resources] == [
        ("vm", "", "m2"),
        ("config", "", "none"),
        ("image", "no alias", ""),
    ]
    assert [(str(failure), failure.code) for failure in stock.failures] == [
        ("1 VM on cluster member m2 cannot be read", "member_offline")
    ]
    assert stock.unavailable == {"m2"}


def test_reports_each_unavailable_member_once():
    away = [
        {**instance(f"vm-{own(number)}"), "config": None, "location": member}
        for number, member in enumerate(("m2", "m3", "m2"))
    ]
    disks = [volume(f"vol-p-{own(1)}", location="m2"), volume(f"vol-p-{own(2)}", location="m3")]
    server = Server(instances=away, default=disks)
    stock = inventory.read(server, "default")
    assert inventory.snapshots(server, stock) == [], "no request for the snapshots there"
    assert [str(failure) for failure in stock.failures] == [
        "2 VMs on cluster member m2 cannot be read",
        "1 VM on cluster member m3 cannot be read",
    ]


def test_sends_one_snapshot_request_to_an_offline_member():
    server = Server(default=[volume(f"vol-p-{own(number)}", location="m2") for number in (1, 2)])
    stock = inventory.read(server, "default")
    disks = []

    def snapshots(pool, disk):
        disks.append(disk)
        raise errors.Busy("Server isn't ready yet")

    server.snapshots = snapshots
    assert inventory.snapshots(server, stock) == [] and len(disks) == 1
    assert [str(failure) for failure in stock.failures] == ["Server isn't ready yet"]
