from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.model import naming

DIRECTOR = "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"
DIGEST = naming.director_digest(DIRECTOR)
MADE = 0x01A2030BDA83 / 1000


def ours(number: int, digest: str = DIGEST) -> str:
    """One of the UUIDs that a director's resources have, all made in the same millisecond."""
    return f"01a2030b-da83-8{number:03x}-9150-{digest}"


def theirs(number: int) -> str:
    """A UUID such as go-lxd-cpi gives: version 4, in a variant that RFC 9562 does not know."""
    return f"5145e068-9581-4bba-4140-{number:012x}"


class Server:
    """Stands in for a client: no real server fails to list one pool only, or is a cluster on one machine."""

    def __init__(self, *, instances=(), images=(), **pools) -> None:
        self._instances, self._images, self._pools = list(instances), list(images), pools
        self.of_disks: dict[str, tuple] = {}
        self.names = {"client": "lxc"}

    def instances(self) -> Response:
        return Response(self._instances, "", "")

    def images(self) -> Response:
        return Response(self._images, "", "")

    def pools(self) -> Response:
        return Response([{"name": name} for name in self._pools], "", "")

    def volumes(self, pool: str) -> Response:
        if isinstance(self._pools.get(pool), Exception):
            raise self._pools[pool]
        return Response(self._pools.get(pool, []), "", "")

    def snapshots(self, pool: str, disk: str) -> Response:
        if disk not in self.of_disks:
            raise errors.NotFound("Storage pool volume not found")
        if isinstance(self.of_disks[disk], Exception):
            raise self.of_disks[disk]
        return Response(self.of_disks[disk], "", "")


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


def only(server: Server) -> inventory.Resource:
    [resource] = inventory.read(server, "default").resources
    return resource


def test_a_vm_of_ours_has_all_that_its_name_and_its_marks_say():
    cid = f"vm-{ours(1)}"
    found = inventory.read(
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
    assert found.resources == [
        inventory.Resource(
            kind="vm",
            cid=cid,
            director=DIGEST,
            created=MADE,
            size=3072.0,
            pool="default",
            location="none",
            deployment="zookeeper",
            instance="zk/2",
        )
    ]
    assert found.directors == {DIGEST: DIRECTOR}


def test_the_directors_name_in_place_of_its_uuid_changes_nothing():
    marks = {"user.bosh.director": "my-bosh"}
    found = inventory.read(Server(instances=[instance(f"vm-{ours(1)}", **marks)]), "default")
    assert [resource.director for resource in found.resources] == [DIGEST]
    assert found.directors == {DIGEST: DIGEST}, "no mark tells the UUID"


def test_one_mark_anywhere_tells_the_uuid_of_a_director():
    found = inventory.read(
        Server(
            default=[
                volume(f"vol-c-{ours(1)}"),
                volume(f"vol-p-{ours(2)}", config={"user.bosh.director_uuid": DIRECTOR}),
            ]
        ),
        "default",
    )
    assert found.directors == {DIGEST: DIRECTOR}


def test_a_vm_that_is_marked_as_being_created_is_half_made():
    assert only(Server(instances=[instance(f"vm-{ours(1)}", **{"user.bosh.state": "creating"})])).state == "half-made"
    assert only(Server(instances=[instance(f"vm-{ours(1)}", **{"user.bosh.state": "created"})])).state == ""
    assert only(Server(instances=[instance(f"vm-{ours(1)}", **{"user.bosh.state": "failed"})])).state == "failed"


@pytest.mark.parametrize(
    "prefix, kind, state",
    [("vol-c-", "config", "unused"), ("vol-e-", "ephemeral", "unused"), ("vol-p-", "disk", "orphan")],
)
def test_a_volume_without_a_user_says_so(prefix, kind, state):
    free = only(Server(fast=[volume(prefix + ours(1))]))
    assert (free.kind, free.state, free.pool, free.created, free.size) == (kind, state, "fast", MADE, 64.0)
    taken = only(
        Server(fast=[volume(prefix + ours(1), used_by=["/1.0/instances/vm-x?project=bosh", "/1.0/profiles/p"])])
    )
    assert (taken.state, taken.used_by) == ("", ("vm-x", "p"))


def test_a_vms_own_volumes_belong_to_its_deployment():
    vm = instance(
        f"vm-{ours(1)}", **{"user.bosh.deployment": "web", "user.bosh.instance_group": "nginx", "user.bosh.index": "0"}
    )
    user = [f"/1.0/instances/vm-{ours(1)}"]
    found = inventory.read(
        Server(
            instances=[vm],
            default=[
                volume(f"vol-c-{ours(1)}", used_by=user),
                volume(f"vol-e-{ours(1)}", used_by=["/1.0/instances/other"]),
                volume(f"vol-p-{ours(2)}", used_by=user),
                volume(f"vol-c-{ours(3)}"),
            ],
        ),
        "default",
    )
    vm, drive, ephemeral, *_ = found.resources
    assert (drive.deployment, drive.instance) == ("web", "nginx/0")
    assert ephemeral.used_by == ("other",)
    assert found.own_volumes(vm) == [drive], "what another one uses is not its own any more"


def the_snapshot(*listed) -> inventory.Resource:
    server = Server(
        default=[volume(f"vol-p-{ours(1)}"), volume(f"vol-p-{ours(1)}/snap-{ours(2)}"), volume(f"vol-c-{ours(3)}")]
    )
    server.of_disks = {f"vol-p-{ours(1)}": listed}
    [resource] = inventory.snapshots(server, inventory.read(server, "default"))
    return resource


def snapshot(name, description=""):
    return {"name": f"vol-p-{ours(1)}/{name}", "description": description, "created_at": "2026-01-31T10:00:00Z"}


def test_a_snapshot_has_its_cid_and_what_its_description_says():
    described = '{"director_uuid": "x", "deployment": "db", "job": "pg", "index": 0}'
    resource = the_snapshot(snapshot(f"snap-{ours(2)}", described), snapshot("before-upgrade"))
    assert resource == inventory.Resource(
        kind="snapshot",
        cid=f"vol-p-{ours(1)}_snap-{ours(2)}",
        director=DIGEST,
        created=MADE,
        size=64.0,
        pool="default",
        location="none",
        deployment="db",
        instance="pg/0",
    )


@pytest.mark.parametrize("description", ["", "by hand", "[1]", "null"])
def test_a_snapshot_may_be_described_in_any_way(description):
    resource = the_snapshot(snapshot(f"snap-{theirs(2)}", description))
    assert (resource.director, resource.created, resource.deployment) == ("?", 1769853600.0, "")


def test_a_disk_that_vanishes_meanwhile_has_no_snapshots():
    server = Server(default=[volume(f"vol-p-{ours(1)}")])
    assert inventory.snapshots(server, inventory.read(server, "default")) == []


def test_without_leave_to_see_snapshots_the_disks_are_listed_alone():
    server = Server(default=[volume(f"vol-p-{ours(1)}")])
    server.of_disks = {f"vol-p-{ours(1)}": errors.Untrusted("No entitlements can be granted")}
    assert inventory.snapshots(server, inventory.read(server, "default")) == []


@pytest.mark.parametrize(
    "name",
    [
        "vm-web",
        "vol-c-notes",
        f"vol-c-{ours(1)}-copy",
        f"data-{ours(1)}",
        f"vol-x-{ours(1)}",
        f"my-vol-e-{ours(1)}",
        f"vol-p-{ours(1)}/before-upgrade",
        f"img-{ours(1)}",
        f"snap-{ours(1)}",
    ],
)
def test_what_is_not_named_in_our_manner_is_not_seen(name):
    assert inventory.read(Server(instances=[instance(name)], default=[volume(name)]), "default").resources == []


def test_a_volume_named_like_a_vm_is_none_and_the_other_way_round():
    assert (
        inventory.read(
            Server(instances=[instance(f"vol-c-{ours(1)}")], default=[volume(f"vm-{ours(1)}")]), "default"
        ).resources
        == []
    )


def test_go_lxd_cpis_things_are_seen_but_nobody_s():
    found = inventory.read(
        Server(
            instances=[instance(f"vm-{theirs(1)}", **{"user.bosh.director_uuid": DIRECTOR})],
            default=[volume(f"vol-c-{theirs(2)}")],
            images=[image(f"img-{theirs(3)}")],
        ),
        "default",
    )
    assert [(resource.kind, resource.director) for resource in found.resources] == [
        ("vm", "?"),
        ("config", "?"),
        ("image", "?"),
    ]
    assert {resource.created for resource in found.resources} == {1769853600.0}, "by the server's clock"
    assert found.directors == {}


def image(*aliases, properties=None, uploaded_at="2026-01-31T10:00:00Z"):
    return {
        "fingerprint": "f00d",
        "aliases": [{"name": name} for name in aliases],
        "size": 3 << 20,
        "uploaded_at": uploaded_at,
        "properties": properties,
    }


def test_an_image_is_there_once_for_each_stemcell_cid_in_order_and_known_by_its_vms():
    vm = instance(f"vm-{ours(1)}", **{"volatile.base_image": "f00d"})
    other = naming.director_digest("another")
    found = inventory.read(
        Server(
            instances=[vm, instance("web")],
            images=[image(f"img-{ours(3, other)}", "ubuntu", f"img-{ours(2)}", properties={"bosh.director": DIRECTOR})],
        ),
        "default",
    )
    images = found.resources[1:]
    assert [(resource.cid, resource.director) for resource in images] == [
        (f"img-{ours(2)}", DIGEST),
        (f"img-{ours(3, other)}", other),
    ]
    assert all((resource.used_by, resource.size, resource.state) == ((vm["name"],), 3.0, "") for resource in images)


def test_an_image_of_ours_without_alias_goes_by_its_fingerprint_and_upload():
    resource = only(Server(images=[image(properties={"bosh.director": DIRECTOR})]))
    assert (resource.cid, resource.director, resource.created, resource.state) == (
        "f00d",
        DIGEST,
        1769853600.0,
        "no alias",
    )


def test_images_of_others_are_not_seen():
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


def test_a_pool_that_cannot_be_read_hides_no_other():
    found = inventory.read(
        Server(broken=errors.ServerError("pool broken is unavailable"), good=[volume(f"vol-p-{ours(1)}")]), "default"
    )
    assert [resource.pool for resource in found.resources] == ["good"]
    assert found.failures == ["pool broken is unavailable"]


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
def test_a_time_is_read_or_unknown(text, expected):
    assert inventory.seconds(text) == expected


def test_of_vms_on_a_member_that_is_down_little_is_known_but_that_they_are_there():
    cid, image = (
        f"vm-{ours(1)}",
        {"fingerprint": "f" * 64, "size": 1, "aliases": [], "properties": {"bosh.director": DIRECTOR}},
    )
    away = {**instance(cid), "config": None, "expanded_devices": None, "location": "m2", "status": "Error"}
    drive = volume(f"vol-c-{ours(1)}", used_by=[f"/1.0/instances/{cid}"])
    found = inventory.read(Server(instances=[away], images=[image], default=[drive]), "default")
    assert [(resource.kind, resource.state, resource.location) for resource in found.resources] == [
        ("vm", "", "m2"),
        ("config", "", "none"),
        ("image", "no alias", ""),
    ]
    assert [failure.partition(". ")[0] for failure in found.failures] == [f"not to be read now: {cid}"]


def test_a_member_that_is_down_is_asked_for_snapshots_once():
    server = Server(default=[volume(f"vol-p-{ours(number)}", location="m2") for number in (1, 2)])
    found = inventory.read(server, "default")
    asked = []

    def snapshots(pool, disk):
        asked.append(disk)
        raise errors.Busy("Server isn't ready yet")

    server.snapshots = snapshots
    assert inventory.snapshots(server, found) == [] and len(asked) == 1 and found.failures == ["Server isn't ready yet"]
