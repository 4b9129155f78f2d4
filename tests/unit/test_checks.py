"""The checks of bin/doctor for servers that no test host has: a wrong clock, clusters, remote pools."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from email.utils import formatdate

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor import main
from bosh_lxd_cpi.admin.doctor.checks import cluster, connection, local, network, project, server, storage
from bosh_lxd_cpi.admin.doctor.checks.network import Manifest
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.config.schema import Agent, Config, Server
from bosh_lxd_cpi.lxd.features import features
from bosh_lxd_cpi.lxd.resources import Network, Project
from bosh_lxd_cpi.lxd.resources import Server as ServerInfo
from bosh_lxd_cpi.lxd.transport import HttpResponse

DRIVERS = [{"Name": "zfs", "Remote": False}, {"Name": "dir", "Remote": False}, {"Name": "ceph", "Remote": True}]
INCUS = {
    "api_extensions": ["dev_incus_events", "security_csm", "custom_volume_iso", "custom_volume_backup"],
    "auth": "trusted",
    "environment": {
        "server": "incus",
        "server_version": "7.0",
        "driver": "qemu | lxc",
        "driver_version": "11.0 | 7.0",
        "storage_supported_drivers": DRIVERS,
        "server_clustered": False,
    },
}
CLUSTER = {**INCUS, "environment": {**INCUS["environment"], "server_clustered": True}}
LXD_4 = {
    **INCUS,
    "api_extensions": ["etag"],
    "environment": {**INCUS["environment"], "server": "lxd", "server_version": "4.0.9"},
}
GIB = 1 << 30


@pytest.fixture
def context(wire, clock, log, tmp_path):
    """Return a function that returns a context for a server. Its named arguments are properties of the server."""

    def make(document=INCUS, **properties):
        defaults = {"url": "unix:///run/x", "network_name": "lxdbr0", "project_name": "prod"}
        config = Config(server=Server(**{**defaults, **properties}), agent=Agent(mbus="m"))
        config = config._replace(throttle_config=config.throttle_config._replace(path=str(tmp_path / "locks")))
        context = CheckContext(config, clock=clock, log=log)
        context.transport, context.server_info = wire, ServerInfo(document, endpoint="GET /1.0")
        context.features = features(context.server_info)
        context.projects = projects("prod")
        return context

    return make


def projects(*names):
    return {name: Project({"name": name}, endpoint="projects") for name in names}


def rows(results):
    """Return the results without hints."""
    return [(result.check, result.status, result.message) for result in results]


# -- the connection ----------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(context, wire, tmp_path):
    """Return a function that returns a context whose socket exists and whose server sends a response."""

    def make(response, **properties):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
        wire.script(("GET /1.0", response))
        return context(url=f"unix://{tmp_path}/socket", **properties)

    return make


@pytest.mark.parametrize(
    ("ahead", "message"),
    [
        (0, "agrees with the server's"),
        (-59, "agrees with the server's"),
        (3600, "this machine is 3600 s ahead of the server"),
        (-90, "this machine is 90 s behind the server"),
    ],
)
def test_compares_the_clock_with_the_date_header(listening, responses, clock, ahead, message):
    headers = {"Date": formatdate(clock.now_is - ahead, usegmt=True)}
    context = listening(responses.sync(INCUS)._replace(headers=headers))
    assert {check: text for check, _, text in rows(connection.connection(context))}["clock"] == message


def test_skips_the_clock_without_a_date_header(listening, responses):
    results = rows(connection.connection(listening(responses.sync(INCUS))))
    assert ("clock", "skip", "the server sends no time") in results


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (HttpResponse(200, {}, b"<html>"), "is not from LXD or Incus: <html>"),
        (HttpResponse(200, {}, b'{"type": "sync", "metadata": {"name": "other"}}'), "neither from LXD nor from Incus"),
        (errors.NoResponse("no response"), "no response"),
    ],
    ids=["html", "other program", "no response"],
)
def test_fails_if_another_program_responds(listening, response, message):
    *_, last = connection.connection(listening(response))
    assert (last.check, last.status) == ("server", "fail") and message in last.message and last.hint


def test_hint_for_untrusted_certificate_fits_incus_7(listening, responses):
    *_, last = connection.connection(listening(responses.sync({"api_extensions": None, "auth": "untrusted"})))
    assert (last.check, last.status) == ("trust", "fail")
    assert "`incus config trust add-certificate bosh.crt`" in last.hint
    assert "--projects prod" in last.hint


# -- the server --------------------------------------------------------------------------------------------------------


def test_warns_of_a_wrong_server_type(context):
    context = context(type="lxd")
    result = next(server.server(context, context.features))
    assert (result.status, result.hint) == ("warn", "Set `server.type: incus`")


def test_rejects_a_server_without_config_drives(context):
    context = context(LXD_4)
    message = "LXD 4.0.9 does not support config drives"
    assert rows(server.server(context, context.features))[0] == ("server", "fail", message)


def test_shows_the_servers_reason_for_missing_vm_support(context, wire, responses):
    broken = {**INCUS, "environment": {**INCUS["environment"], "driver": "lxc"}}
    warning = {
        "type": "Instance type not operational",
        "status": "new",
        "last_message": "vhost_vsock kernel module not loaded",
    }
    wire.script(
        (
            "GET /1.0/warnings",
            responses.sync(
                [warning, {**warning, "status": "resolved", "last_message": "old"}, {**warning, "type": "Other"}]
            ),
        ),
        ("GET /1.0/warnings", responses.error("Certificate is restricted", 403)),
    )
    context = context(broken)
    for reason in ("vhost_vsock kernel module not loaded", "the server shows no reason"):
        results = rows(server.virtual_machines(context, context.features))
        assert results == [("virtual machines", "fail", f"not supported: {reason}")]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(16, ("ok", "the server has 16 CPUs")), (17, ("fail", "17 CPUs are more than the server's 16"))],
)
def test_compares_the_cpus_of_a_vm_with_the_server(context, wire, responses, number, expected):
    wire.script(("GET /1.0/resources", responses.sync({"cpu": {"total": 16}})))
    assert rows(server.cpu(context(), number)) == [("cpu", *expected)]


def test_skips_cpus_that_the_server_hides(context, wire, responses):
    wire.script(("GET /1.0/resources", responses.error("Certificate is restricted", 403)))
    assert [row[:2] for row in rows(server.cpu(context(), 1))] == [("cpu", "skip")]
    assert rows(server.cpu(context(), None)) == []


# -- the cluster -------------------------------------------------------------------------------------------------------


def members(**statuses):
    """Return documents of members, which vote and are in a group with their own name."""
    return [
        {"server_name": name, "status": status, "roles": ["database"], "groups": ["default", f"rack-{name}"]}
        for name, status in statuses.items()
    ]


ONLINE = dict.fromkeys("abc", "Online")
OK_MESSAGE = "3 members online: a, b, c; groups: default, rack-a, rack-b, rack-c"


@pytest.fixture
def clustered(context, wire, responses):
    """Return a function that returns the results for members, all of which have the same version."""

    def make(documents, *, versions=None, **properties):
        online = [document["server_name"] for document in documents if document["status"] == "Online"]
        wire.script(
            ("GET /1.0/cluster/members", responses.sync(documents)),
            *(("GET /1.0", responses.sync(versions[name] if versions else INCUS)) for name in online),
        )
        made = context(CLUSTER, **properties)
        results = rows(cluster.cluster(made, made.features))
        assert made.online_members == online
        return [(status, message) for _, status, message in results]

    return make


def test_knows_the_roles_of_lxd_6(clustered):
    roles = {"a": "database-leader", "b": "database-voter", "c": "database-voter", "d": "database-standby"}
    online, offline = dict.fromkeys("abcd", "Online"), {"a": "Online", "b": "Online", "c": "Offline", "d": "Online"}
    documents = [
        [{**member, "roles": [roles[member["server_name"]]]} for member in members(**statuses)]
        for statuses in (online, offline)
    ]
    assert [status for status, _ in clustered(documents[0])] == ["ok"]
    assert clustered(documents[1])[1][1].startswith("2 of 3 database members are online")


@pytest.mark.parametrize("target", ["", "c", "@rack-b"])
def test_accepts_a_cluster_with_all_members_online(clustered, wire, target):
    assert clustered(members(**ONLINE), target=target) == [("ok", OK_MESSAGE)]
    assert [request.query["target"] for request in wire.recorded[1:]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("d", "server.target d is none of a, b, c"),
        ("@fast", "server.target @fast is no group with members; groups: default, rack-a, rack-b, rack-c"),
    ],
)
def test_rejects_a_target_that_does_not_exist(clustered, target, message):
    assert clustered(members(**ONLINE), target=target) == [("fail", message)]


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([*members(**ONLINE), {"server_name": "d", "status": "Offline"}], ["not online: d"]),
        (members(**{**ONLINE, "c": "Evacuated"}), ["evacuated: c"]),
        (
            members(**{**ONLINE, "c": "Offline"}),
            [
                "not online: c",
                "2 of 3 database members are online: the cluster stops if another one fails",
            ],
        ),
        (members(a="Online", b="Online"), ["2 members: the cluster can stop if one of them fails"]),
    ],
    ids=["no voter", "evacuated", "voter", "two"],
)
def test_warns_of_members_that_are_missing(clustered, documents, expected):
    assert clustered(documents) == [("warn", message) for message in expected]


def test_warns_of_different_versions(clustered):
    newer = {**INCUS, "environment": {**INCUS["environment"], "server_version": "7.0.1"}}
    versions = {"a": INCUS, "b": newer, "c": INCUS}
    assert clustered(members(**ONLINE), versions=versions) == [
        ("warn", "the members have several versions: 7.0 on a, c; 7.0.1 on b")
    ]


def test_skips_cluster_members_of_a_single_server(context):
    context = context()
    assert rows(cluster.cluster(context, context.features)) == []


def test_skips_cluster_members_if_forbidden(context, wire, responses):
    wire.script(("GET /1.0/cluster/members", responses.error("not authorized", 403)))
    context = context(CLUSTER)
    assert [row[:2] for row in rows(cluster.cluster(context, context.features))] == [("cluster", "skip")]


def test_names_the_quorum_if_the_database_does_not_respond(context, wire, responses):
    wire.script(("GET /1.0/cluster/members", responses.error("context deadline exceeded")))
    context = context(CLUSTER)
    with pytest.raises(errors.Busy) as raised:
        list(cluster.cluster(context, context.features))
    assert raised.value.code == "no_quorum"


def test_ends_if_the_database_does_not_respond(listening, wire, responses, clock):
    context, begin = listening(responses.sync(CLUSTER)), clock.monotonic()
    wire.script(*[("GET /1.0/cluster/members", responses.error("no available cowsql leader server found"))] * 5)
    results = rows(main._checks(context, Manifest(), cpu=None))
    assert results[-2] == ("cluster", "fail", "listing the cluster's members: no available cowsql leader server found")
    assert results[-1] == ("further checks", "skip", "not made, because the server does not respond")
    assert clock.monotonic() - begin < 5


@pytest.fixture
def cluster_pool(context, wire, responses):
    """Return a function that returns the results for a pool of two members."""

    def make(*, locations=("a", "b"), statuses=("Created", "Created"), free=(100, 100), driver="zfs"):
        made = context(CLUSTER, predeploy_stemcell=True)
        made.members = made.online_members = ["a", "b"]
        path, script = "GET /1.0/storage-pools/default", []
        document, _ = pool(driver, locations=list(locations))
        if len(locations) == len(made.members):
            script += [(path, responses.sync({**document, "status": status})) for status in statuses]
            if set(statuses) == {"Created"}:
                script += [(f"{path}/resources", responses.sync(pool(driver, free=number)[1])) for number in free]
        wire.script((path, responses.sync(document)), *script)
        return [(status, message) for _, status, message in rows(storage.pool(made, made.features))]

    return make


def test_shows_the_member_with_the_least_space(cluster_pool, wire):
    [(status, message)] = cluster_pool(free=(90, 80))
    assert status == "ok" and message.startswith("default, zfs, 80.0 of 200.0 GiB free on b")
    assert [request.query.get("target") for request in wire.recorded] == [None, "a", "b", "a", "b"]


def test_warns_of_each_member_without_space(cluster_pool):
    assert cluster_pool(free=(9, 1)) == [
        ("warn", "default has 9.0 of 200.0 GiB free on a"),
        ("fail", "default has 1.0 of 200.0 GiB free on b"),
    ]


def test_reads_the_space_of_a_shared_pool_once(cluster_pool):
    [(status, message)] = cluster_pool(driver="ceph", free=(50,))
    assert status == "ok" and message.startswith("default, ceph, 50.0 of 200.0 GiB free, root disks")


def test_rejects_a_pool_that_a_member_lacks(cluster_pool):
    assert cluster_pool(locations=("a",)) == [("fail", "default is missing on b")]
    assert cluster_pool(statuses=("Created", "Unavailable")) == [("fail", "default is unavailable on b")]


# -- project, pool, network --------------------------------------------------------------------------------------------


def test_rejects_a_target_in_a_restricted_project(context, wire, responses):
    restricted = {
        "name": "prod",
        "config": {
            "features.images": "true",
            "features.storage.volumes": "true",
            "restricted": "true",
            "restricted.snapshots": "allow",
        },
    }
    wire.script(("GET /1.0/projects", responses.sync([restricted])))
    context = context(CLUSTER, target="a")
    [result] = project.project(context, context.features)
    assert "does not allow server.target" in result.message
    command = "project set prod restricted.cluster.target=allow"
    assert result.hint == f"Run `lxc {command}` or `incus {command}`"


def pool(driver, *, free=100.0, total=200.0, **fields):
    space = {"total": int(total * GIB), "used": int((total - free) * GIB)}
    document = {"name": "default", "driver": driver, "status": "Created", "config": {"source": "/dev/sdb"}}
    return {**document, **fields}, {"space": space}


@pytest.mark.parametrize(
    ("document", "properties", "storage_pool", "status", "message"),
    [
        (INCUS, {}, pool("zfs"), "ok", "default, zfs, 100.0 of 200.0 GiB free, root disks of at least 10240 MiB"),
        (INCUS, {}, pool("zfs", free=9.9), "warn", "default has 9.9 of 200.0 GiB free"),
        (INCUS, {}, pool("zfs", free=1.9), "fail", "default has 1.9 of 200.0 GiB free"),
        (CLUSTER, {}, pool("ceph"), "warn", "the cluster shares default (ceph)"),
        (CLUSTER, {"predeploy_stemcell": True}, pool("ceph"), "ok", "default, ceph"),
        (INCUS, {}, pool("ceph"), "ok", "default, ceph"),
        (CLUSTER, {}, pool("zfs"), "ok", "default, zfs"),
    ],
)
def test_checks_the_pool(context, wire, responses, *, document, properties, storage_pool, status, message):
    context = context(document, **properties)
    pool_document, space = storage_pool
    wire.script(
        ("GET /1.0/storage-pools/default", responses.sync(pool_document)),
        ("GET /1.0/storage-pools/default/resources", responses.sync(space)),
    )
    [result] = storage.pool(context, context.features)
    assert (result.check, result.status) == ("pool", status) and message in result.message


@pytest.mark.parametrize(
    ("storage_pool", "check"), [(pool("zfs", total=0), "pool space"), (pool("zfs", config=None), "pool settings")]
)
def test_skips_what_the_server_hides_of_a_pool(context, wire, responses, storage_pool, check):
    context, (pool_document, space) = context(), storage_pool
    wire.script(
        ("GET /1.0/storage-pools/default", responses.sync(pool_document)),
        ("GET /1.0/storage-pools/default/resources", responses.sync(space)),
    )
    first, skipped = storage.pool(context, context.features)
    assert (first.check, first.status) == ("pool", "ok") and "free space" not in first.message
    assert (skipped.check, skipped.status) == (check, "skip") and "`lxc storage " in skipped.hint


def test_skips_a_space_that_an_identity_may_not_read(context, wire, responses):
    context, (pool_document, _) = context(), pool("zfs")
    wire.script(
        ("GET /1.0/storage-pools/default", responses.sync(pool_document)),
        ("GET /1.0/storage-pools/default/resources", responses.error("Forbidden", 403)),
    )
    results = list(storage.pool(context, context.features))
    assert [(result.check, result.status) for result in results] == [("pool", "ok"), ("pool space", "skip")]


def test_skips_the_space_of_a_pending_pool(context, wire, responses):
    wire.script(("GET /1.0/storage-pools/default", responses.sync(pool("zfs", status="Pending")[0])))
    context = context()
    assert rows(storage.pool(context, context.features)) == [("pool", "fail", "default is pending")]


BRIDGE = {
    "name": "lxdbr0",
    "type": "bridge",
    "managed": True,
    "status": "Created",
    "config": {"ipv4.address": "10.0.0.1/29", "ipv4.nat": "true", "dns.mode": "none"},
}
MANIFEST = Manifest(ipaddress.IPv4Network("10.0.0.0/24"))


@pytest.mark.parametrize(
    ("bridge", "manifest", "status", "message"),
    [
        (BRIDGE, Manifest(), "ok", "lxdbr0, a managed bridge, 10.0.0.1/29, DHCP, NAT"),
        (
            {**BRIDGE, "managed": False, "config": {}},
            Manifest(),
            "ok",
            "lxdbr0, an unmanaged bridge",
        ),
        ({**BRIDGE, "managed": False, "config": {}}, MANIFEST, "warn", "so the manifest is not checked"),
        ({**BRIDGE, "config": {}}, Manifest(), "skip", "hides its settings from this client, such as DHCP"),
        ({**BRIDGE, "config": {}}, MANIFEST, "warn", "so the manifest is not checked"),
        ({**BRIDGE, "status": "Errored"}, MANIFEST, "fail", "lxdbr0 is errored"),
        ({**BRIDGE, "config": {"ipv4.address": "none"}}, Manifest(), "ok", "without IPv4 subnet"),
        ({**BRIDGE, "config": {"ipv4.address": "none"}}, MANIFEST, "warn", "lxdbr0 has no IPv4 subnet"),
    ],
)
def test_checks_the_network(context, wire, responses, *, bridge, manifest, status, message):
    wire.script(("GET /1.0/networks", responses.sync([bridge])))
    [result] = network.network(context(), manifest)
    assert (result.check, result.status) == ("network", status) and message in result.message


def test_warns_of_dns_mode(context, wire, responses):
    bridge = {**BRIDGE, "config": {"ipv4.address": "10.0.0.1/29"}}
    wire.script(("GET /1.0/networks", responses.sync([bridge])))
    _, result = network.network(context(), Manifest())
    assert result.status == "warn" and "accepts one NIC of each VM" in result.message
    assert "network set lxdbr0 dns.mode=none" in result.hint


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, "warn"),
        ({"ipv4.dhcp.ranges": "10.0.0.2-10.0.0.4,10.0.0.5"}, "warn"),
        ({"ipv4.dhcp.ranges": "10.0.0.2-10.0.0.4, 10.0.0.6"}, "ok"),
        ({"ipv4.dhcp": "false"}, "ok"),
    ],
)
def test_warns_if_dhcp_can_assign_the_internal_ip(context, wire, responses, settings, status):
    wire.script(
        ("GET /1.0/networks", responses.sync([{**BRIDGE, "config": {**BRIDGE["config"], **settings}}])),
        ("GET /1.0/networks/lxdbr0/leases", responses.sync([])),
    )
    *_, result = network.network(context(), Manifest(ip=ipaddress.IPv4Address("10.0.0.5")))
    assert (result.check, result.status) == ("internal_ip", status)


@pytest.mark.parametrize(
    "address, ip, dhcp_range",
    [
        ("10.0.0.1/24", "10.0.0.11", "10.0.0.180-10.0.0.199"),
        ("10.0.0.1/24", "10.0.0.180", "10.0.0.120-10.0.0.139"),
        ("10.0.0.1/20", "10.0.0.11", "10.0.11.64-10.0.12.127"),
        ("10.0.0.1/29", "10.0.0.5", "10.0.0.3-10.0.0.3"),
    ],
)
def test_hint_has_a_range_without_the_addresses_in_use(context, wire, responses, address, ip, dhcp_range):
    wire.script(
        ("GET /1.0/networks", responses.sync([{**BRIDGE, "config": {"ipv4.address": address}}])),
        ("GET /1.0/networks/lxdbr0/leases", responses.sync([])),
    )
    *_, result = network.network(context(), Manifest(ip=ipaddress.IPv4Address(ip)))
    assert f"ipv4.dhcp.ranges={dhcp_range}`" in result.hint


@pytest.mark.parametrize("is_restricted", [False, True])
def test_skips_addresses_that_the_server_hides(context, wire, responses, is_restricted):
    context = context()
    context.restricted_projects = ["prod"] if is_restricted else None
    leases = responses.sync([]) if is_restricted else responses.error("not authorized", 403)
    bridge = {**BRIDGE, "config": {**BRIDGE["config"], "ipv4.dhcp": "false"}}
    wire.script(("GET /1.0/networks", responses.sync([bridge])), ("GET /1.0/networks/lxdbr0/leases", leases))
    *_, result = network.network(context, Manifest(ip=ipaddress.IPv4Address("10.0.0.5")))
    assert (result.check, result.status) == ("internal_ip", "skip")
    assert result.message == "10.0.0.5 is free in the projects prod; the server hides those of others"


def test_warns_without_a_default_network(context, wire, responses):
    wire.script(("GET /1.0/networks", responses.sync([BRIDGE, {**BRIDGE, "name": "lo", "type": "loopback"}])))
    context = context(network_name="", project_name="default")
    context.projects = projects("default")
    [result] = network.network(context, Manifest())
    assert result.status == "warn" and "one of: lxdbr0;" in result.hint


def test_finds_a_network_of_the_default_project(context, wire, responses):
    wire.script(("GET /1.0/networks", responses.sync([])), ("GET /1.0/networks", responses.sync([BRIDGE])))
    [result] = network.network(context(), Manifest())
    assert result.status == "ok" and [request.query["project"] for request in wire.recorded] == ["prod", "default"]


def test_free_address_is_the_highest_unused_one_in_all_projects(context, wire, responses):
    def lease(ip):
        return {"address": ip, "hostname": "", "hwaddr": "02:00:00:00:00:01"}

    context = context()
    context.projects, context.network = projects("prod", "secret", "web"), Network(BRIDGE, endpoint="networks")
    wire.script(
        ("GET /1.0/networks/lxdbr0/leases", responses.sync([lease("10.0.0.6"), lease("fd00::1")])),
        ("GET /1.0/networks/lxdbr0/leases", responses.error("not authorized", 403)),
        ("GET /1.0/networks/lxdbr0/leases", responses.sync([lease("10.0.0.5")])),
    )
    assert str(network.free_address(context)) == "10.0.0.4"
    context.network = None
    assert network.free_address(context) is None


PROFILE = {"name": "default", "devices": {"root": {"type": "disk", "path": "/"}, "eth0": {"type": "nic"}}, "config": {}}


@pytest.mark.parametrize(
    ("profile", "status", "problem"),
    [
        ({}, "ok", "default, devices: eth0, root"),
        ({"devices": {}}, "ok", "default, devices: none"),
        ({"devices": {"nic0": {"type": "nic"}}}, "warn", "every VM gets the NIC nic0"),
        ({"devices": {"disk0": {"type": "disk", "path": "/"}}}, "warn", "its root disk is disk0"),
        ({"config": {"migration.stateful": "true"}}, "fail", "with migration.stateful, VMs with disks in local pools"),
        ({"config": {"security.protection.delete": "true"}}, "fail", "BOSH cannot delete VMs"),
    ],
)
def test_checks_the_profile(context, wire, responses, profile, status, problem):
    wire.script(("GET /1.0/profiles", responses.sync([{**PROFILE, **profile}])))
    [result] = project.profile(context())
    assert (result.check, result.status) == ("profile", status) and problem in result.message


# -- this machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent_config", "fault"), [({}, ""), ({"label": "c\u00f6nf"}, "label"), ({"userdata_path": "/x"}, "/x")]
)
def test_rejects_an_agent_config_without_a_valid_config_drive(context, agent_config, fault):
    context = context()
    config = context.config
    context.config = config._replace(agent_config=config.agent_config._replace(**agent_config))
    with context:
        [result] = local.configuration(context, "cpi.json", faults=[], unknown=[])
    assert result.status == ("fail" if fault else "ok")
    assert not fault or "agent_config" in result.message


def test_accepts_a_lock_directory_that_can_be_created(context, tmp_path):
    assert rows(local.locks(context())) == [("lock directory", "ok", f"{tmp_path}/locks; the throttle is off")]
    assert not (tmp_path / "locks").exists()


def test_rejects_a_file_as_lock_directory(context, tmp_path):
    (tmp_path / "locks").touch()
    [result] = local.locks(context())
    assert result.status == "fail" and result.message == f"{tmp_path}/locks: {tmp_path}/locks is not a directory"


def test_rejects_a_lock_directory_that_all_users_can_write_to(context, tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o1777)
    [result] = local.locks(context())
    assert result.status == "fail" and result.message == f"{tmp_path}/locks: every user can write to it"


@pytest.fixture
def on_a_director(tmp_path, monkeypatch):
    """Return a function that makes this machine a director's, with a bpm.yml."""

    def make(bpm=None):
        monkeypatch.setattr(local, "DIRECTOR_JOB", str(tmp_path))
        monkeypatch.setattr(local, "SHARED_DIRECTORIES", (str(tmp_path / "lock"),))
        monkeypatch.setattr(local, "_may_write", lambda *_: True)
        monkeypatch.setattr(local.pwd, "getpwnam", lambda _: None)
        if bpm is not None:
            (tmp_path / "config").mkdir()
            (tmp_path / "config/bpm.yml").write_text(bpm if isinstance(bpm, str) else json.dumps(bpm), encoding="utf-8")

    return make


def process(name, *volumes):
    about = {"name": f"{name}_1", "executable": f"/var/vcap/jobs/director/bin/{name}", "ephemeral_disk": True}
    return {**about, "unsafe": {"unrestricted_volumes": list(volumes)}} if volumes else about


def test_lock_directory_needs_no_volume_without_bpm(context, on_a_director):
    on_a_director({"processes": [process("director", {"path": "/var/vcap/bosh/etc"}), process("scheduler")]})
    assert [result.status for result in local.locks(context())] == ["ok"]


@pytest.mark.parametrize(
    "volume, status",
    [
        ({"path": "{}", "writable": True}, "ok"),
        ({"path": "{}/locks", "writable": True}, "ok"),
        ({"path": "{}"}, "warn"),
        ({"path": "{}/lock", "writable": True}, "warn"),
    ],
)
def test_lock_directory_needs_a_writable_volume_of_bpm(context, on_a_director, tmp_path, volume, status):
    logs = {"path": "/var/vcap/sys/log/lxd_cpi", "writable": True}
    lock_volume = {**volume, "path": volume["path"].format(tmp_path)}
    on_a_director(
        {"processes": [process("nginx"), process("worker", logs, lock_volume), process("worker", lock_volume, logs)]}
    )
    assert [result.status for result in local.locks(context())] == [status]


def test_warns_if_one_worker_cannot_see_the_lock_directory(context, on_a_director, tmp_path):
    volume = {"path": str(tmp_path), "writable": True}
    on_a_director({"processes": [process("worker", volume), process("worker")]})
    assert [result.status for result in local.locks(context())] == ["warn"]


@pytest.mark.parametrize("bpm", [None, "", "processes: [", "processes: [worker]", "\0", "processes:\n- name: worker"])
def test_warns_if_the_configuration_of_bpm_is_unreadable(context, on_a_director, tmp_path, bpm):
    on_a_director(bpm)
    [result] = local.locks(context())
    assert result.status == "warn" and f"add {tmp_path}/locks to director.cpi_additional_volumes" in result.hint


def test_warns_of_a_remote_lock_directory(context, on_a_director, tmp_path, monkeypatch):
    context = context()
    on_a_director()
    monkeypatch.setattr(local, "SHARED_DIRECTORIES", (str(tmp_path),))
    assert next(local.locks(context)).status == "ok"
    monkeypatch.setattr(local, "file_system", lambda _: "nfs4")
    assert rows(local.locks(context)) == [("lock directory", "warn", f"{tmp_path}/locks is on nfs4")]


def test_file_system_is_that_of_the_nearest_mount():
    assert local.file_system("/proc/self/fd") == "proc"
    assert local.file_system("/no/such/place") == local.file_system("/") != ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_root_checks_whether_the_workers_may_write(tmp_path):
    class Worker:
        pw_uid, pw_gid = 1234, 5678

    for owner, group, mode, may in (
        (1234, 0, 0o700, True),
        (1234, 0, 0o577, False),
        (0, 5678, 0o770, True),
        (0, 5678, 0o707, False),
        (0, 0, 0o777, True),
        (0, 0, 0o770, False),
    ):
        os.chown(tmp_path, owner, group)
        tmp_path.chmod(mode)
        assert local._may_write(tmp_path.stat(), Worker()) is may
