from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import ROLLBACK_SECONDS, Context, is_foreign, parse_cid
from bosh_lxd_cpi.model import naming
from bosh_lxd_cpi.runtime.retry import RetryPolicy


@pytest.mark.parametrize(
    "cid", ["vm-3f2b1c00-0000-4000-8000-000000000001", "vol-p-1", "img-1", "vol-p-1_snap-1", "a.b", "x" * 200]
)
def test_accepts_every_cid(cid):
    assert parse_cid(cid, "vm_cid") == cid


@pytest.mark.parametrize(
    "value",
    [None, "", 5, [], {}, True, "a/b", "..", ".", "../x", "a b", "a?b", "a%2e", "a\n", "\u00e9", "x" * 201, "a;b", "'"],
)
def test_rejects_invalid_cid(value):
    with pytest.raises(errors.BadRequest, match=r"^vm_cid must be a CID, not ") as raised:
        parse_cid(value, "vm_cid")
    assert len(raised.value.brief) < 100


@pytest.mark.parametrize(
    "cid",
    ["agent_id:5;resource_group_name:bosh", "projects/p/zones/z/disks/d", "ami-1 light", "..", "x" * 201, "vm-1\n"],
)
def test_cids_of_other_clouds_are_foreign(cid):
    assert is_foreign(cid)


@pytest.mark.parametrize("value", ["i-0a1b", "6f1c8e52-0000-4000-8000-000000000001", "vm-1", "", None, 5, [], {}])
def test_other_values_are_not_foreign(value):
    assert not is_foreign(value)


def test_hint_fields_name_the_kind_that_the_server_reports(context, wire, responses):
    wire.script(("GET /1.0", responses.sync({"auth": "trusted", "environment": {"server": "incus"}})))
    call = context()
    assert call.features().kind == "incus"
    assert call.hint_fields()["server"] == "incus"


@pytest.mark.parametrize("kind", ["lxd", "incus"])
def test_hint_fields_name_the_configured_kind_before_any_request(context, kind):
    assert context(type=kind).hint_fields()["server"] == kind


def test_hint_fields_are_properties_of_the_server(context):
    assert context(storage_pool_name="fast", project_name="prod", profile_name="bosh").hint_fields() == {
        "server": "",
        "url": "https://lxd:8443",
        "project": "prod",
        "profile": "bosh",
        "pool": "fast",
        "network": "lxdbr0",
    }


def test_rejects_server_that_does_not_trust_the_certificate(context, wire, responses):
    wire.script(("GET /1.0", responses.sync({"auth": "untrusted", "api_extensions": ["dev_incus_events"]})))
    call = context()
    with pytest.raises(
        errors.CertificateNotTrusted, match="the server at https://lxd:8443 does not trust the client certificate"
    ) as raised:
        call.features()
    assert raised.value.code == "certificate_not_trusted"
    assert call.hint_fields()["server"] == "incus"


def test_owner_labels_name_director_and_time(context):
    assert context().owner_labels() == {
        "user.bosh.director_uuid": "d1r",
        "user.bosh.created_at": "2026-01-31T10:00:00Z",
    }


def test_new_id_encodes_time_and_director(context, clock):
    origin = naming.origin(context().new_id())
    assert origin and (origin.created, origin.director) == (clock.time(), naming.director_digest("d1r"))


def test_rollback_has_its_own_deadline(context, clock):
    remaining = []
    call = context()
    with pytest.raises(errors.DeadlineExceeded), call.rollback() as rollback:
        rollback.add("x", lambda context: remaining.append(context.client.deadline.remaining()))
        clock.sleep(300)
        call.client.deadline.remaining()
    assert remaining == [ROLLBACK_SECONDS]


def test_rollback_keeps_the_settings_of_the_call(client, context):
    policy = RetryPolicy(max_attempts=2)
    call = context(change_retry=policy)
    contexts: list[Context] = []
    with pytest.raises(KeyError), call.rollback() as rollback:
        rollback.add("x", contexts.append)
        raise KeyError
    [rollback_context] = contexts
    assert rollback_context.change_retry is policy
    assert rollback_context.client.transport is client.transport
    assert rollback_context.client.project == "prod"
