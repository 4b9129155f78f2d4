from __future__ import annotations

import inspect
import re

import pytest

from bosh_lxd_cpi import errors

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}
KNOWN_TO_THE_DIRECTOR = {
    "CpiError",
    "NotSupported",
    "NotImplemented",
    "CloudError",
    "VMNotFound",
    "NetworkNotFound",
    "NoDiskSpace",
    "DiskNotAttached",
    "DiskNotFound",
    "VMCreationFailed",
}
"""facts: bosh-contract 1.2; any other type becomes UnknownError there."""


def make(kind: type[errors.CpiError], **more: object) -> errors.CpiError:
    return kind("brief", **({"ok_to_retry": False} if kind is errors.VMCreationFailed else {}), **more)


@pytest.mark.parametrize("kind", CLASSES.values())
def test_every_error_is_of_a_type_that_the_director_knows(kind):
    assert issubclass(kind, errors.CpiError)
    assert make(kind).type.removeprefix("Bosh::Clouds::") in KNOWN_TO_THE_DIRECTOR


def test_the_drawing_is_the_tree():
    drawn, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    (?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)  ", line)
        if match:
            depth = len(match["indent"]) // 4
            path = [*path[:depth], match["name"]]
            drawn[match["name"]] = path[-2] if depth else "Exception"
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}


def test_only_a_vm_that_could_not_be_made_is_ever_worth_a_retry_to_the_director():
    assert [name for name, kind in CLASSES.items() if kind.ok_to_retry] == []
    assert errors.VMCreationFailed("x", ok_to_retry=True).ok_to_retry is True
    assert errors.VMCreationFailed("x", ok_to_retry=False).ok_to_retry is False


def test_what_may_pass_by_itself_is_marked():
    assert {name for name, kind in CLASSES.items() if kind.transient} == {
        "DeadlineExceeded",
        "Interrupted",
        "ThrottleTimeout",
        "Unreachable",
        "NoResponse",
        "Changed",
        "Busy",
        "AddressTaken",
    }


@pytest.mark.parametrize(
    "brief, hint, message",
    [
        ("what happened", "", "what happened"),
        ("what happened.", "", "what happened."),
        ("what happened", "Do this", "what happened. Do this"),
        ("what happened.", "Do this", "what happened. Do this"),
    ],
)
def test_the_message_is_brief_and_hint_and_never_the_detail(brief, hint, message):
    error = errors.CloudError(brief, detail="long story", hint=hint)
    assert (error.message, error.detail, str(error)) == (message, "long story", brief)
