"""Fine-grained identities. LXD has them from 5.21.3 and 6.2 on, so no test host shows them."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi.admin.doctor.checks import connection, identity
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.config.schema import Agent, Config, Server
from bosh_lxd_cpi.lxd.resources import Server as ServerInfo
from tests.support.certificates import create_certificate

IDENTITY = "GET /1.0/auth/identities/current"
NETWORK = "GET /1.0/networks/lxdbr0"
OPERATOR = ("/1.0/projects/prod", "operator")
ALL = [OPERATOR, ("/1.0/projects/default", "can_view"), ("/1.0/networks/lxdbr0", "can_view")]


@pytest.fixture
def context(wire, clock, log, tmp_path):
    create_certificate(tmp_path / "crt", tmp_path / "key", name="client", curve="prime256v1")
    properties = {"url": "https://lxd:8443", "tls_client_cert": str(tmp_path / "crt"), "project_name": "prod"}
    config = Config(server=Server(**properties, network_name="lxdbr0"), agent=Agent(mbus="m"))
    context = CheckContext(config, clock=clock, log=log)
    context.transport = wire
    context.server_info = ServerInfo({"api_extensions": ["access_management_tls"]}, endpoint="GET /1.0")
    return context


def document(*permissions: tuple[str, str], groups: tuple[str, ...] = ("bosh", "more")):
    """Return the response of LXD (shared/api/auth.go, IdentityInfo)."""
    return {
        "authentication_method": "tls",
        "type": "Client certificate",
        "id": "f1",
        "name": "director",
        "groups": list(groups),
        "effective_groups": list(groups),
        "effective_permissions": [
            {"entity_type": "project", "url": url, "entitlement": entitlement} for url, entitlement in permissions
        ],
        "fine_grained": True,
    }


def lines(results):
    return [(result.status, result.message, result.hint) for result in results]


ADD = "Add the entitlement to the group: `lxc auth group permission add bosh"


@pytest.mark.parametrize(
    ("permissions", "commands"),
    [
        (ALL, []),
        ([*ALL[:2], ("/1.0/networks/lxdbr0?project=default", "can_view")], []),
        ([OPERATOR, ("/1.0/projects/default", "viewer")], []),
        ([("/1.0", "admin")], []),
        ([OPERATOR], ["project default can_view", "network lxdbr0 can_view project=default"]),
        ([OPERATOR, ALL[1]], ["network lxdbr0 can_view project=default"]),
        ([OPERATOR, ("/1.0/projects/default", "can_view_networks")], ["project default can_view"]),
        (ALL[1:], ["project prod operator"]),
        (
            [("/1.0/projects/prod", "instance_manager"), ("/1.0/projects/prod", "storage_volume_manager"), *ALL[1:]],
            [
                f"project prod {part}"
                for part in (
                    "can_view",
                    "image_manager",
                    "image_alias_manager",
                    "can_view_profiles",
                    "can_view_operations",
                )
            ],
        ),
    ],
)
def test_names_each_missing_entitlement(context, wire, responses, permissions, commands):
    wire.script((IDENTITY, responses.sync(document(*permissions))))
    if permissions != [("/1.0", "admin")]:
        wire.script((NETWORK, responses.error("Not Found", 404)))
        wire.script(("GET /1.0/projects/prod", responses.sync({"name": "prod"})))
    results = lines(connection._restrictions(context))
    if commands:
        assert [hint for _, _, hint in results] == [f"{ADD} {command}`" for command in commands]
        assert {status for status, _, _ in results} == {"fail"}
        assert results[0][1].startswith("the identity director (groups: bosh, more) lacks ")
    else:
        assert results == [("ok", "the identity director (groups: bosh, more) has all entitlements", "")]


def test_a_visible_network_needs_no_entitlement(context, wire, responses):
    """For example a network of the project, or one that another group allows."""
    network = {"name": "lxdbr0", "type": "bridge", "managed": True, "config": {}}
    wire.script((IDENTITY, responses.sync(document(OPERATOR))), (NETWORK, responses.sync(network)))
    assert [status for status, _, _ in lines(connection._restrictions(context))] == ["ok"]


def test_identity_without_group(context, wire, responses):
    wire.script((IDENTITY, responses.sync(document(groups=()))))
    [(status, message, hint)] = lines(connection._restrictions(context))
    assert (status, message) == ("fail", "the identity director is in no group")
    assert "`lxc auth identity group add tls/director bosh`" in hint and "config trust" not in hint


def test_restricted_certificate_may_not_list_snapshots(context, wire, responses):
    entry = {"restricted": True, "projects": ["prod"]}
    fingerprint = connection.certificate_fingerprint(connection.pem(context.server.tls_client_cert))
    wire.script(
        (IDENTITY, responses.sync({**document(groups=()), "type": "Client certificate (restricted)"})),
        (f"GET /1.0/certificates/{fingerprint}", responses.sync(entry)),
    )
    [(status, message, hint)] = lines(connection._restrictions(context))
    assert status == "warn" and message.endswith("it may not list or delete snapshots of disks")
    assert "`util init_lxd --identity`" in hint
    assert document()["type"] == identity.FINE_GRAINED
