from __future__ import annotations

import pytest

from bosh_lxd_cpi.lxd.features import features
from bosh_lxd_cpi.lxd.resources import Server


def view(document):
    return Server(document, endpoint="GET /1.0")


def server(*extensions, auth="trusted", **environment):
    return view({"api_extensions": list(extensions), "auth": auth, "environment": environment})


INCUS_6 = server(
    "custom_volume_iso",
    "security_csm",
    "instance_create_start",
    "dev_incus_events",
    server="incus",
    server_version="6.0.4",
    server_clustered=False,
    driver="lxc | qemu",
    storage="dir | zfs",
)
LXD_5_0 = server(
    "devlxd_events", server="lxd", server_version="5.0.2", server_clustered=False, driver="lxc | qemu", storage="dir"
)
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
                "is_clustered": False,
                "has_virtual_machines": True,
                "has_iso_volumes": True,
                "starts_on_create": True,
                "firmware": "security.csm",
                "clones_images": True,
                "is_trusted": True,
            },
        ),
        (
            LXD_5_0,
            {
                "kind": "lxd",
                "version": "5.0.2",
                "is_clustered": False,
                "has_virtual_machines": True,
                "has_iso_volumes": False,
                "starts_on_create": False,
                "firmware": "raw.qemu",
                "clones_images": False,
                "is_trusted": True,
            },
        ),
        (
            LXD_6_7,
            {
                "kind": "lxd",
                "version": "6.7",
                "is_clustered": True,
                "has_virtual_machines": True,
                "has_iso_volumes": True,
                "starts_on_create": False,
                "firmware": "boot.mode",
                "is_trusted": True,
            },
        ),
    ],
)
def test_reads_the_features_of_each_server(metadata, expected):
    result = features(metadata)
    assert {name: getattr(result, name) for name in expected} == expected


@pytest.mark.parametrize("driver, expected", [("lxc", False), ("", False), ("qemu", True), ("lxc | qemu", True)])
def test_needs_the_qemu_driver_for_virtual_machines(driver, expected):
    assert features(server(server="lxd", driver=driver)).has_virtual_machines is expected


@pytest.mark.parametrize(
    "extensions, kind", [(["etag", "dev_incus_events"], "incus"), (["etag", "devlxd_events"], "lxd"), (None, "incus")]
)
def test_reads_the_kind_of_a_server_that_does_not_trust_us(extensions, kind):
    result = features(view({"api_extensions": extensions, "auth": "untrusted"}))
    assert (result.kind, result.is_trusted, result.version, result.has_virtual_machines) == (kind, False, "", False)


def test_assumes_nothing_about_an_empty_document():
    result = features(view({}))
    assert (result.kind, result.is_trusted, result.is_clustered, result.firmware) == ("lxd", False, False, "raw.qemu")
