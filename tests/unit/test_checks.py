"""What the checks say of servers that no test host can be: a clock that is off, clusters, remote pools."""

from __future__ import annotations

import ipaddress
import json
import os
import pathlib
import socket
from email.utils import formatdate

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.checks import connection, local, network, project, server, storage
from bosh_lxd_cpi.admin.doctor.checks.network import Wanted
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.config.schema import Agent, Config, Server
from bosh_lxd_cpi.lxd.features import features
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
def patient(wire, clock, log, tmp_path):
    def make(metadata=INCUS, **properties):
        defaults = {"url": "unix:///run/x", "network_name": "lxdbr0", "project_name": "prod"}
        settings = Config(server=Server(**{**defaults, **properties}), agent=Agent(mbus="m"))
        settings = settings._replace(throttle_config=settings.throttle_config._replace(path=str(tmp_path / "locks")))
        made = CheckContext(settings, clock=clock, log=log)
        made.transport, made.metadata, made.features = wire, metadata, features(metadata)
        made.projects = {"prod": {"name": "prod", "config": {}}}
        return made

    return make


def told(findings):
    return [(one.check, one.status, one.found) for one in findings]


# -- the connection ---------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(patient, wire, tmp_path):
    """Makes a patient whose socket is there, and who answers this."""

    def make(answer, **properties):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
        wire.script(("GET /1.0", answer))
        return patient(url=f"unix://{tmp_path}/socket", **properties)

    return make


@pytest.mark.parametrize(
    "ahead, says",
    [
        (0, "the same as the server's"),
        (-59, "the same as the server's"),
        (3600, "this machine is 3600 s ahead of the server"),
        (-90, "this machine is 90 s behind the server"),
    ],
)
def test_the_servers_clock_is_read_from_its_answer(listening, replies, clock, ahead, says):
    answer = replies.sync(INCUS)
    ill = listening(answer._replace(headers={"Date": formatdate(clock.now_is - ahead, usegmt=True)}))
    assert dict((check, found) for check, _, found in told(connection.examine(ill)))["clock"] == says


def test_an_answer_without_a_date_says_nothing_of_clocks(listening, replies):
    assert "clock" not in [one.check for one in connection.examine(listening(replies.sync(INCUS)))]


@pytest.mark.parametrize(
    "answer, says",
    [
        (HttpResponse(200, {}, b"<html>"), "is not LXD's: <html>"),
        (HttpResponse(200, {}, b'{"type": "sync", "metadata": {"name": "another program"}}'), "neither LXD nor Incus"),
        (errors.NoResponse("no answer"), "no answer"),
    ],
)
def test_what_answers_may_not_be_the_server(listening, answer, says):
    ill = listening(answer)
    last = list(connection.examine(ill))[-1]
    assert (last.check, last.status) == ("server", "fail") and says in last.found and last.hint


def test_a_stranger_learns_of_incus_7_what_to_run_there(listening, replies):
    ill = listening(replies.sync({"api_extensions": None, "auth": "untrusted"}))
    last = list(connection.examine(ill))[-1]
    assert (last.check, last.status) == ("trust", "fail")
    assert "`incus config trust add-certificate bosh.crt`" in last.hint
    assert "--projects prod" in last.hint


# -- the server -------------------------------------------------------------------------------------------------------


def test_a_server_of_another_type_than_configured_and_one_that_is_too_old(patient):
    other = patient(type="lxd")
    found = next(server.server(other, other.features))
    assert (found.status, found.hint) == ("warn", "Set `server.type: incus`")
    old = patient(LXD_4)
    assert told(server.server(old, old.features))[0] == ("server", "fail", "LXD 4.0.9 can take no config drive")


def test_why_there_are_no_virtual_machines_is_the_servers_word_if_it_may_be_read(patient, wire, replies):
    broken = {**INCUS, "environment": {**INCUS["environment"], "driver": "lxc"}}
    warning = {
        "type": "Instance type not operational",
        "status": "new",
        "last_message": "vhost_vsock kernel module not loaded",
    }
    wire.script(
        (
            "GET /1.0/warnings",
            replies.sync(
                [warning, {**warning, "status": "resolved", "last_message": "old"}, {**warning, "type": "Other"}]
            ),
        ),
        ("GET /1.0/warnings", replies.error("Certificate is restricted", 403)),
    )
    ill = patient(broken)
    for why in ("vhost_vsock kernel module not loaded", "the server does not say why"):
        findings = told(server.virtual_machines(ill, ill.features))
        assert findings == [("virtual machines", "fail", f"not possible: {why}")]


MEMBERS = [{"server_name": "a", "status": "Online"}, {"server_name": "b", "status": "Offline"}]


@pytest.mark.parametrize(
    "target, members, expected",
    [
        ("", MEMBERS[:1], ("ok", "1 members online: a")),
        ("", MEMBERS, ("warn", "not online: b")),
        ("c", MEMBERS, ("fail", "server.target c is none of a, b")),
        ("@fast", MEMBERS[:1], ("ok", "1 members online: a")),
    ],
)
def test_the_members_of_a_cluster(patient, wire, replies, target, members, expected):
    wire.script(("GET /1.0/cluster/members", replies.sync(members)))
    ill = patient(CLUSTER, target=target)
    assert told(server.cluster(ill, ill.features)) == [("cluster", *expected)]


def test_one_machine_is_not_asked_for_members_and_a_restricted_certificate_may_not_see_them(patient, wire, replies):
    alone = patient()
    assert told(server.cluster(alone, alone.features)) == []
    wire.script(("GET /1.0/cluster/members", replies.error("not authorized", 403)))
    ill = patient(CLUSTER)
    assert told(server.cluster(ill, ill.features)) == []


# -- project, pool, network -------------------------------------------------------------------------------------------


def test_a_target_needs_leave_in_a_restricted_project(patient, wire, replies):
    restricted = {
        "name": "prod",
        "config": {
            "features.images": "true",
            "features.storage.volumes": "true",
            "restricted": "true",
            "restricted.snapshots": "allow",
        },
    }
    wire.script(("GET /1.0/projects", replies.sync([restricted])))
    ill = patient(CLUSTER, target="a")
    [found] = project.project(ill, ill.features)
    assert "allows no server.target" in found.found
    assert (
        found.hint
        == "`lxc project set prod restricted.cluster.target=allow` or `incus project set prod restricted.cluster.target=allow`"
    )


def pool(driver, *, free=100.0, total=200.0, **more):
    space = {"total": int(total * GIB), "used": int((total - free) * GIB)}
    about = {"name": "default", "driver": driver, "status": "Created", "config": {"source": "/dev/sdb"}}
    return {**about, **more}, {"space": space}


@pytest.mark.parametrize(
    "metadata, properties, found, status, says",
    [
        (INCUS, {}, pool("zfs"), "ok", "default, zfs, 100.0 of 200.0 GiB free"),
        (INCUS, {}, pool("zfs", free=0, total=0), "ok", "default, zfs, free space unknown"),
        (INCUS, {}, pool("zfs", free=9.9), "warn", "default has 9.9 of 200.0 GiB free"),
        (INCUS, {}, pool("zfs", free=1.9), "fail", "default has 1.9 of 200.0 GiB free"),
        (CLUSTER, {}, pool("ceph"), "warn", "default (ceph) is shared by the cluster"),
        (CLUSTER, {"predeploy_stemcell": True}, pool("ceph"), "ok", "default, ceph"),
        (INCUS, {}, pool("ceph"), "ok", "default, ceph"),
        (CLUSTER, {}, pool("zfs"), "ok", "default, zfs"),
        (INCUS, {}, pool("zfs", config=None), "ok", "default, zfs"),
    ],
)
def test_what_is_said_of_a_pool(patient, wire, replies, metadata, properties, found, status, says):
    ill = patient(metadata, **properties)
    about, space = found
    wire.script(
        ("GET /1.0/storage-pools/default", replies.sync(about)),
        ("GET /1.0/storage-pools/default/resources", replies.sync(space)),
    )
    [one] = storage.pool(ill, ill.features)
    assert (one.check, one.status) == ("pool", status) and says in one.found


def test_a_pool_that_is_not_ready_is_looked_at_no_further(patient, wire, replies):
    wire.script(("GET /1.0/storage-pools/default", replies.sync(pool("zfs", status="Pending")[0])))
    ill = patient()
    assert told(storage.pool(ill, ill.features)) == [("pool", "fail", "default is pending")]


BRIDGE = {
    "name": "lxdbr0",
    "type": "bridge",
    "managed": True,
    "status": "Created",
    "config": {"ipv4.address": "10.0.0.1/29", "ipv4.nat": "true"},
}
PLAN = Wanted(ipaddress.IPv4Network("10.0.0.0/24"))


@pytest.mark.parametrize(
    "found, wanted, status, says",
    [
        (BRIDGE, Wanted(), "ok", "lxdbr0, a managed bridge, 10.0.0.1/29, DHCP, NAT"),
        (
            {**BRIDGE, "managed": False, "config": {}},
            Wanted(),
            "ok",
            "lxdbr0, a bridge that the server does not manage",
        ),
        ({**BRIDGE, "config": {}}, PLAN, "ok", "not shown to a restricted certificate"),
        ({**BRIDGE, "status": "Errored"}, PLAN, "fail", "lxdbr0 is errored"),
        ({**BRIDGE, "config": {"ipv4.address": "none"}}, Wanted(), "ok", "without IPv4 subnet"),
        ({**BRIDGE, "config": {"ipv4.address": "none"}}, PLAN, "warn", "lxdbr0 has no IPv4 subnet"),
    ],
)
def test_what_is_said_of_a_network(patient, wire, replies, found, wanted, status, says):
    wire.script(("GET /1.0/networks", replies.sync([found])))
    [one] = network.network(patient(), wanted)
    assert (one.check, one.status) == ("network", status) and says in one.found


def test_no_network_is_needed_but_missed(patient, wire, replies):
    wire.script(("GET /1.0/networks", replies.sync([BRIDGE, {**BRIDGE, "name": "lo", "type": "loopback"}])))
    ill = patient(network_name="", project_name="default")
    ill.projects = {"default": {}}
    [one] = network.network(ill, Wanted())
    assert one.status == "warn" and "one of: lxdbr0;" in one.hint


def test_a_network_may_be_the_default_projects(patient, wire, replies):
    wire.script(("GET /1.0/networks", replies.sync([])), ("GET /1.0/networks", replies.sync([BRIDGE])))
    [one] = network.network(patient(), Wanted())
    assert one.status == "ok" and [asked.query["project"] for asked in wire.asked] == ["prod", "default"]


def test_a_free_address_is_the_highest_that_nobody_has_in_any_project(patient, wire, replies):
    def lease(ip):
        return {"address": ip, "hostname": "", "hwaddr": "02:00:00:00:00:01"}

    ill = patient()
    ill.projects, ill.network = {"prod": {}, "secret": {}, "web": {}}, BRIDGE
    wire.script(
        ("GET /1.0/networks/lxdbr0/leases", replies.sync([lease("10.0.0.6"), lease("fd00::1")])),
        ("GET /1.0/networks/lxdbr0/leases", replies.error("not authorized", 403)),
        ("GET /1.0/networks/lxdbr0/leases", replies.sync([lease("10.0.0.5")])),
    )
    assert str(network.free(ill)) == "10.0.0.4"
    ill.network = None
    assert network.free(ill) is None


# -- here -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look, fault", [({}, ""), ({"label": "c\u00f6nf"}, "label"), ({"userdata_path": "/x"}, "/x")])
def test_an_agent_config_that_makes_no_drive_is_found_before_a_vm_is_made(patient, look, fault):
    ill = patient()
    ill.settings = ill.settings._replace(agent_config=ill.settings.agent_config._replace(**look))
    [one] = local.configuration(ill, "cpi.json", faults=[], unknown=[])
    assert one.status == ("fail" if fault else "ok") and (
        not fault or "agent_config makes no config drive" in one.found
    )


def test_a_lock_directory_may_yet_have_to_be_made(patient, tmp_path):
    assert told(local.locks(patient())) == [("lock directory", "ok", f"{tmp_path}/locks; the throttle is off")]
    assert not (tmp_path / "locks").exists()


def test_a_file_in_place_of_the_lock_directory(patient, tmp_path):
    (tmp_path / "locks").touch()
    [one] = local.locks(patient())
    assert one.status == "fail" and one.found == f"{tmp_path}/locks: {tmp_path}/locks is no directory"


@pytest.fixture
def on_a_director(tmp_path, monkeypatch):
    """Has this machine be a director's, with this in its bpm.yml."""

    def make(bpm=None):
        monkeypatch.setattr(local, "DIRECTOR", str(tmp_path))
        monkeypatch.setattr(local, "SHARED", (str(tmp_path / "lock"),))
        monkeypatch.setattr(local, "_may_write", lambda *_: True)
        monkeypatch.setattr(local.pwd, "getpwnam", lambda _: None)
        if bpm is not None:
            (tmp_path / "config").mkdir()
            (tmp_path / "config/bpm.yml").write_text(bpm if isinstance(bpm, str) else json.dumps(bpm), encoding="utf-8")

    return make


def process(name, *volumes):
    about = {"name": f"{name}_1", "executable": f"/var/vcap/jobs/director/bin/{name}", "ephemeral_disk": True}
    return {**about, "unsafe": {"unrestricted_volumes": list(volumes)}} if volumes else about


def test_a_lock_directory_needs_no_volume_where_workers_do_not_run_under_bpm(patient, on_a_director):
    on_a_director({"processes": [process("director", {"path": "/var/vcap/bosh/etc"}), process("scheduler")]})
    assert [one.status for one in local.locks(patient())] == ["ok"]


@pytest.mark.parametrize(
    "volume, status",
    [
        ({"path": "{}", "writable": True}, "ok"),
        ({"path": "{}/locks", "writable": True}, "ok"),
        ({"path": "{}"}, "warn"),
        ({"path": "{}/lock", "writable": True}, "warn"),
    ],
)
def test_a_lock_directory_is_seen_by_workers_under_bpm_that_may_write_to_it(
    patient, on_a_director, tmp_path, volume, status
):
    logs = {"path": "/var/vcap/sys/log/lxd_cpi", "writable": True}
    given = {**volume, "path": volume["path"].format(tmp_path)}
    on_a_director({"processes": [process("nginx"), process("worker", logs, given), process("worker", given, logs)]})
    assert [one.status for one in local.locks(patient())] == [status]


def test_a_worker_without_volumes_hides_the_lock_directory_from_itself(patient, on_a_director, tmp_path):
    given = {"path": str(tmp_path), "writable": True}
    on_a_director({"processes": [process("worker", given), process("worker")]})
    assert [one.status for one in local.locks(patient())] == ["warn"]


@pytest.mark.parametrize("bpm", [None, "", "processes: [", "processes: [worker]", "\0", "processes:\n- name: worker"])
def test_a_lock_directory_that_workers_under_bpm_may_not_see(patient, on_a_director, tmp_path, bpm):
    on_a_director(bpm)
    [one] = local.locks(patient())
    assert one.status == "warn" and f"list {tmp_path}/locks under director.cpi_additional_volumes" in one.hint


def test_a_lock_directory_that_all_workers_share_or_that_is_remote(patient, on_a_director, tmp_path, monkeypatch):
    ill = patient()
    on_a_director()
    monkeypatch.setattr(local, "SHARED", (str(tmp_path),))
    assert next(local.locks(ill)).status == "ok"
    monkeypatch.setattr(local, "file_system", lambda _: "nfs4")
    assert told(local.locks(ill)) == [("lock directory", "warn", f"{tmp_path}/locks is on nfs4")]


def test_the_file_system_is_that_of_the_nearest_mount():
    assert local.file_system("/proc/self/fd") == "proc"
    assert local.file_system("/no/such/place") == local.file_system("/") != ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_looks_whether_the_workers_may_write(tmp_path):
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
        pathlib.Path(tmp_path).chmod(mode)
        assert local._may_write(os.stat(tmp_path), Worker()) is may
