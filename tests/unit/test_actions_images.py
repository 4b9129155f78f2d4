"""Images that one call deletes while another one names them."""

from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import images
from bosh_lxd_cpi.model import naming

IMAGE = "GET /1.0/images/f1ng3r"


@pytest.fixture
def announced(clock, responses):
    """Return a function that builds the image with the announcement of a deletion of this age in seconds."""

    def announced(age: float = 0.0):
        other = type(clock)()
        other.now_is = clock.time() - age
        name = naming.deletion_alias(naming.new_id(other, "another-director"))
        return responses.sync({"fingerprint": "f1ng3r", "aliases": [{"name": name}, {"name": "img-1"}]})

    return announced


@pytest.fixture
def image(responses):
    return responses.sync({"fingerprint": "f1ng3r", "aliases": [{"name": "img-1"}]})


def test_waits_until_a_deletion_is_withdrawn(context, wire, clock, announced, image):
    wire.script((IMAGE, announced()), (IMAGE, announced()), (IMAGE, image))
    images.wait_for_deletions(context(), "f1ng3r")
    assert clock.slept == [images.POLL_SECONDS] * 2


def test_raises_not_found_when_the_deletion_is_done(context, wire, responses, announced):
    wire.script((IMAGE, announced()), (IMAGE, responses.error("Image not found", 404)))
    with pytest.raises(errors.NotFound):
        images.wait_for_deletions(context(), "f1ng3r")


@pytest.mark.parametrize("age", [images.ANNOUNCEMENT_SECONDS + 1, -images.ANNOUNCEMENT_SECONDS - 1])
def test_ignores_an_expired_announcement(context, wire, announced, age):
    wire.script((IMAGE, announced(age)))
    images.wait_for_deletions(context(), "f1ng3r")


def test_waits_until_an_announcement_expires(context, wire, clock, announced):
    response = announced(images.ANNOUNCEMENT_SECONDS - 1)
    wire.script(*[(IMAGE, response)] * 3)
    images.wait_for_deletions(context(), "f1ng3r")
    assert clock.slept == [images.POLL_SECONDS] * 2
