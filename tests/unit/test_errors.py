from __future__ import annotations

import inspect
import re

import pytest

from bosh_lxd_cpi import errors

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}
ERRORS = [kind for kind in CLASSES.values() if issubclass(kind, errors.CpiError)]
DIRECTOR_TYPES = {
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
"""The types that the director knows (docs/development/bosh-contract.md §1.2). Any other type becomes UnknownError."""


@pytest.mark.parametrize("kind", CLASSES.values())
def test_every_type_is_one_of_the_director(kind):
    assert kind.type.removeprefix("Bosh::Clouds::") in DIRECTOR_TYPES


def test_module_docstring_shows_the_class_tree():
    documented, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    (?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)(?:  |$)", line)
        if match:
            depth = len(match["indent"]) // 4
            path = [*path[:depth], match["name"]]
            documented[match["name"]] = path[-2] if depth else ""
    roots = {"CpiError", "Interrupted"}
    assert documented == {name: "" if name in roots else kind.__bases__[0].__name__ for name, kind in CLASSES.items()}


def test_interrupted_is_not_an_exception():
    assert not issubclass(errors.Interrupted, Exception)
    assert str(errors.Interrupted("SIGTERM")) == "the call was stopped by SIGTERM"


def test_director_retries_vm_creation_only():
    assert [kind for kind in ERRORS if kind.ok_to_retry] == []
    assert errors.VMCreationFailed("x", ok_to_retry=True).ok_to_retry is True
    assert errors.VMCreationFailed("x", ok_to_retry=False).ok_to_retry is False


def test_transient_errors():
    assert {kind.__name__ for kind in ERRORS if kind.transient} == {
        "DeadlineExceeded",
        "ThrottleTimeout",
        "Unreachable",
        "NoResponse",
        "OperationNotFound",
        "PreconditionFailed",
        "Busy",
        "MemberUnavailable",
        "AddressTaken",
    }


@pytest.mark.parametrize("kind", ERRORS)
def test_error_keeps_brief_detail_code_and_fields(kind):
    options = {"ok_to_retry": False} if kind is errors.VMCreationFailed else {}
    error = kind("brief", detail="long story", code="no_pool", pool="fast", **options)
    assert (error.brief, error.detail, error.code, error.fields) == ("brief", "long story", "no_pool", {"pool": "fast"})
    assert str(error) == "brief"


def test_error_has_no_code_by_default():
    error = errors.CloudError("brief")
    assert (error.detail, error.code, error.fields) == ("", "", {})
