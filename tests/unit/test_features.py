from __future__ import annotations

import pytest

from bosh_lxd_cpi.lxd.features import features


def server(*extensions, auth="trusted", **environment):
    return {"api_extensions": list(extensions), "auth": auth, "environment": environment}


INCUS_6 = server(
    "custom_volume_iso",
    "security_csm",
    "instance_create_start",
    "dev_incus_events",
    server="incus",
    server_version="6.0.4",
    server_clustered=False,
    driver="lxc | qemu",
)
LXD_5_0 = server("devlxd_events", server="lxd", server_version="5.0.2", server_clustered=False, driver="lxc | qemu")
LXD_6_7 = server(
    "custom_volume_iso",
    "instance_boot_mode",
    "security_csm",
    server="lxd",
    server_version="6.7",
    server_clustered=True,
    driver="qemu | lxc",
)


@pytest.mark.parametrize(
    "metadata, expected",
    [
        (
            INCUS_6,
            {
                "kind": "incus",
                "version": "6.0.4",
                "clustered": False,
                "virtual_machines": True,
                "iso_volumes": True,
                "start_on_create": True,
                "firmware": "security.csm",
                "trusted": True,
                "client": "incus",
            },
        ),
        (
            LXD_5_0,
            {
                "kind": "lxd",
                "version": "5.0.2",
                "clustered": False,
                "virtual_machines": True,
                "iso_volumes": False,
                "start_on_create": False,
                "firmware": "raw.qemu",
                "trusted": True,
                "client": "lxc",
            },
        ),
        (
            LXD_6_7,
            {
                "kind": "lxd",
                "version": "6.7",
                "clustered": True,
                "virtual_machines": True,
                "iso_volumes": True,
                "start_on_create": False,
                "firmware": "boot.mode",
                "trusted": True,
                "client": "lxc",
            },
        ),
    ],
)
def test_three_servers_are_told_apart(metadata, expected):
    found = features(metadata)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("driver, able", [("lxc", False), ("", False), ("qemu", True), ("lxc | qemu", True)])
def test_virtual_machines_need_the_qemu_driver(driver, able):
    assert features(server(server="lxd", driver=driver)).virtual_machines is able


@pytest.mark.parametrize(
    "extensions, kind", [(["etag", "dev_incus_events"], "incus"), (["etag", "devlxd_events"], "lxd"), (None, "incus")]
)
def test_a_server_that_does_not_trust_us_tells_its_kind_by_its_extensions(extensions, kind):
    found = features({"api_extensions": extensions, "auth": "untrusted"})
    assert (found.kind, found.trusted, found.version, found.virtual_machines) == (kind, False, "", False)


def test_a_server_that_says_nothing_is_trusted_with_nothing():
    found = features({})
    assert (found.kind, found.trusted, found.clustered, found.firmware) == ("lxd", False, False, "raw.qemu")
