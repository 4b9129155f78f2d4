from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import disks, placement
from bosh_lxd_cpi.runtime import server_facts

VOLUMES = "/1.0/storage-pools/default/volumes/custom"
MEMBERS = "GET /1.0/cluster/members"
PROJECT = "GET /1.0/projects/prod"


def member(name, *groups, status="Online"):
    return {"server_name": name, "url": f"https://{name}:8443", "status": status, "groups": ["default", *groups]}


@pytest.fixture
def script_members(wire, responses):
    """Script the list of members: m1 and m2 in rack1, m3 in rack2 and fast, m4 in rack3 and offline."""

    def script_members(*changes):
        members = [
            member("m1", "rack1"),
            member("m2", "rack1", "ssd"),
            member("m3", "rack2", "ssd"),
            member("m4", "rack3", status="Offline"),
        ]
        wire.script((MEMBERS, responses.sync(members)))

    return script_members


@pytest.fixture
def script_disk(wire, responses):
    def script_disk(cid, location, size="1GiB"):
        volume = {"name": cid, "location": location, "config": {"size": size}}
        wire.script((f"GET {VOLUMES}/{cid}", responses.sync(volume)))

    return script_disk


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "vm", "location", "target"),
    [
        ({}, None, None, ""),
        ({}, "vm-1", None, ""),
        ({"target": "@rack1"}, "vm-1", "m2", "m2"),
        ({"url": "https://m1:8443 https://m2:8443"}, "vm-1", "m2", "m2"),
        ({"url": "https://m1:8443 https://m2:8443"}, "vm-1", "none", ""),
        ({"url": "https://m1:8443 https://m2:8443"}, None, None, ""),
    ],
    ids=["no VM", "single server", "target", "several URLs", "several URLs of one server", "several URLs, no VM"],
)
def test_disk_goes_to_the_member_of_its_vm_on_a_cluster(context, wire, responses, server, vm, location, target):
    if location:
        wire.script((f"GET /1.0/instances/{vm}", responses.sync({"name": vm, "location": location})))
    assert placement.disk_target(context(**server), "", vm) == target


def test_disk_goes_to_the_member_of_its_vm_on_a_known_cluster(context, wire, responses):
    context = context()
    server_facts.record(context.config.lock_directory(), server_facts.CLUSTER, context.config.server.url)
    wire.script(("GET /1.0/instances/vm-1", responses.sync({"name": "vm-1", "location": "m2"})))
    assert placement.disk_target(context, "m1", "vm-1") == "m2"


def test_disk_goes_to_a_member_of_its_group(context, script_members):
    context, targets = context(), []
    for _ in range(4):
        script_members()
        targets.append(placement.disk_target(context, "@rack1", None))
    assert targets == ["m2", "m1", "m2", "m1"]


@pytest.mark.parametrize(
    ("group", "message", "code"),
    [
        ("@nobody", "there is no cluster member in @nobody", "no_cluster_group"),
        ("@rack3", "no cluster member in @rack3 is online: m4", "no_member"),
    ],
)
def test_no_member_for_a_disk_is_an_error(context, script_members, group, message, code):
    script_members()
    with pytest.raises(errors.CloudError, match=f"{message}$") as exc_info:
        disks.create_disk(context(), 16, {"target": group})
    assert exc_info.value.code == code


# -- VMs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["m1", "@rack1", ""])
def test_one_target_needs_no_request(context, wire, target):
    assert placement.vm_target(context(), {target} - {""}, []) == target and wire.lines == []


@pytest.mark.parametrize(
    ("targets", "result"),
    [
        ({"m2", "@rack1"}, "m2"),
        ({"m2", "@rack1", "@ssd"}, "m2"),
        ({"@rack1", "@ssd"}, "m2"),
        ({"@rack2", "@ssd"}, "m3"),
    ],
)
def test_targets_that_have_a_member_in_common(context, script_members, targets, result):
    script_members()
    assert placement.vm_target(context(), targets, []) == result


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"m1", "@rack2"}, "VM and networks have different targets: m1 is not in @rack2"),
        ({"m9", "@rack2"}, "VM and networks have different targets: m9 is not in @rack2"),
        ({"@rack1", "@rack2"}, "there is no cluster member in @rack1 and @rack2"),
    ],
)
def test_rejects_targets_without_common_member(context, script_members, targets, message):
    script_members()
    with pytest.raises(errors.CloudError, match=message) as exc_info:
        placement.vm_target(context(), targets, [])
    assert exc_info.value.code in ("different_targets", "no_cluster_group")


@pytest.mark.parametrize(
    ("targets", "location", "target"),
    [
        (set(), "m3", "m3"),
        ({"@rack1"}, "m1", "m1"),
        ({"@rack1"}, "m3", "@rack1"),
        (set(), "m4", ""),
        ({"@rack3"}, "m4", "@rack3"),
    ],
    ids=["no target", "in group", "outside of group", "offline", "offline in group"],
)
def test_vm_goes_to_its_disk_if_possible(
    context, script_members, script_disk, wire, responses, targets, location, target
):
    script_disk("vol-p-1", location)
    script_members()
    if target == location:
        wire.script((PROJECT, responses.sync({"name": "prod", "config": {}})))
    assert placement.vm_target(context(), targets, ["vol-p-1"]) == target


def test_vm_goes_to_the_member_with_most_data(context, script_members, script_disk, wire, responses):
    for cid, location, size in (("a", "m1", "2GiB"), ("b", "m2", "1GiB"), ("c", "m2", "2GiB")):
        script_disk(cid, location, size)
    script_members()
    wire.script((PROJECT, responses.sync({"name": "prod", "config": {}})))
    assert placement.vm_target(context(), set(), ["a", "b", "c"]) == "m2"


def test_member_as_target_takes_precedence_over_disks(context, wire):
    assert placement.vm_target(context(), {"m1"}, ["vol-p-1"]) == "m1" and wire.lines == []


def test_unreadable_disks_do_not_decide(context, wire, responses, script_disk, log):
    script_disk("remote", "")
    wire.script((f"GET {VOLUMES}/broken", responses.error("odd", 500)))
    assert placement.vm_target(context(), set(), ["remote", "broken", None]) == ""
    assert "disk broken does not decide" in log.stream.getvalue()


def test_members_that_the_server_hides_do_not_decide(context, wire, responses, script_disk, log):
    script_disk("vol-p-1", "m1")
    wire.script((MEMBERS, responses.error("not authorized", 403)))
    assert placement.vm_target(context(), {"@rack1"}, ["vol-p-1"]) == "@rack1"
    assert "the disks do not decide" in log.stream.getvalue()


@pytest.mark.parametrize(
    ("config", "target"),
    [
        ({"restricted": "true"}, ""),
        ({"restricted": "true", "restricted.cluster.target": "allow"}, "m1"),
        ({"restricted": "true", "restricted.cluster.target": "allow", "restricted.cluster.groups": "rack2"}, ""),
    ],
)
def test_restricted_project_may_forbid_members(context, wire, responses, script_members, script_disk, config, target):
    script_disk("vol-p-1", "m1")
    script_members()
    wire.script((PROJECT, responses.sync({"name": "prod", "config": config})))
    assert placement.vm_target(context(), set(), ["vol-p-1"]) == target
