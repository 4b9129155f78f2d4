from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import ROLLBACK_SECONDS, identifier
from bosh_lxd_cpi.model import naming


@pytest.mark.parametrize(
    "cid", ["vm-3f2b1c00-0000-4000-8000-000000000001", "vol-p-1", "img-1", "vol-p-1_snap-1", "a.b", "x" * 200]
)
def test_a_cid_is_taken_as_it_is(cid):
    assert identifier(cid, "vm_cid") == cid


@pytest.mark.parametrize(
    "value",
    [None, "", 5, [], {}, True, "a/b", "..", ".", "../x", "a b", "a?b", "a%2e", "a\n", "\u00e9", "x" * 201, "a;b", "'"],
)
def test_what_no_cid_can_be_is_refused(value):
    with pytest.raises(errors.BadRequest, match="^vm_cid must be a CID, not ") as raised:
        identifier(value, "vm_cid")
    assert len(raised.value.message) < 100


def test_the_server_says_what_it_is_and_hints_use_its_own_client(cpi, wire, replies, client):
    wire.script(("GET /1.0", replies.sync({"auth": "trusted", "environment": {"server": "incus"}})))
    assert cpi().features().kind == "incus"
    assert client.names["client"] == "incus"


def test_a_server_that_does_not_trust_us_says_how_to_be_trusted(cpi, wire, replies):
    wire.script(("GET /1.0", replies.sync({"auth": "untrusted", "api_extensions": ["dev_incus_events"]})))
    with pytest.raises(
        errors.Untrusted, match="the server at https://lxd:8443 does not trust our client certificate"
    ) as raised:
        cpi().features()
    assert "incus config trust add-certificate bosh.crt" in raised.value.hint


@pytest.mark.parametrize("kind, client_name", [("lxd", "lxc"), ("incus", "incus")])
def test_the_configured_type_names_the_client_before_the_server_is_asked(cpi, client, kind, client_name):
    cpi(type=kind, storage_pool_name="fast")
    assert client.names == {"project": "prod", "client": client_name, "pool": "fast"}


def test_what_is_made_is_marked_with_director_and_time(cpi):
    assert cpi().marks() == {"user.bosh.director_uuid": "d1r", "user.bosh.created_at": "2026-01-31T10:00:00Z"}


def test_new_ids_say_when_they_were_made_and_for_whom(cpi, clock):
    found = naming.origin(cpi().new_id())
    assert found and (found.created, found.director) == (clock.time(), naming.director_digest("d1r"))


def test_taking_back_has_time_of_its_own(cpi, clock, client):
    left = []
    with pytest.raises(errors.DeadlineExceeded), cpi().rollback() as rollback:
        rollback.add("x", lambda: left.append(client.deadline.remaining()))
        clock.sleep(300)
        client.deadline.remaining()
    assert left == [ROLLBACK_SECONDS]
