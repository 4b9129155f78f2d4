from __future__ import annotations

import pytest

from bosh_lxd_cpi.errors import UnexpectedResponse
from bosh_lxd_cpi.lxd.envelope import Response
from bosh_lxd_cpi.lxd.resources import Instance, Operation, Server, Volume, several, single

ENDPOINT = "GET /1.0/instances/vm-1"


def instance(**document):
    return Instance(document, endpoint=ENDPOINT)


def test_keeps_unknown_fields():
    assert instance(name="vm-1", new_field=[1]).document == {"name": "vm-1", "new_field": [1]}


def test_names_endpoint_and_field_when_a_field_is_missing():
    with pytest.raises(UnexpectedResponse) as raised:
        instance(name="vm-1").status  # noqa: B018  reading the field is the test
    assert raised.value.brief == f"{ENDPOINT}: the field status of the response is missing, not a string"


@pytest.mark.parametrize(
    "value, shape",
    [([], "an array"), ("x", "a string"), (1, "a number"), (1.5, "a number"), (True, "a boolean")],
    ids=["array", "string", "integer", "float", "boolean"],
)
def test_names_endpoint_and_field_when_a_field_has_another_type(value, shape):
    with pytest.raises(UnexpectedResponse) as raised:
        instance(config=value).config  # noqa: B018  reading the field is the test
    assert raised.value.brief == f"{ENDPOINT}: the field config of the response is {shape}, not an object"


@pytest.mark.parametrize(
    "field, value, problem",
    [
        ("config", {"a": 1}, "a number, not a string"),
        ("config", {"a": None}, "missing, not a string"),
        ("devices", {"eth0": "x"}, "a string, not an object"),
        ("devices", {"eth0": {"type": []}}, "an array, not a string"),
    ],
)
def test_checks_the_values_in_a_field(field, value, problem):
    with pytest.raises(UnexpectedResponse) as raised:
        getattr(instance(**{field: value}), field)
    assert raised.value.brief == f"{ENDPOINT}: the field {field} of the response has a value that is {problem}"


@pytest.mark.parametrize("document", [{}, {"config": None}], ids=["missing", "null"])
def test_an_optional_field_has_a_default(document):
    assert instance(**document).config == {}


@pytest.mark.parametrize("document", [None, [], "x", 1], ids=["null", "array", "string", "number"])
def test_rejects_a_document_that_is_no_object(document):
    with pytest.raises(UnexpectedResponse, match=f"^{ENDPOINT}: the response is .*, not an object$"):
        single(Instance, Response(document, "", ""), ENDPOINT)


@pytest.mark.parametrize("document", [{}, "x", 1], ids=["object", "string", "number"])
def test_rejects_a_list_that_is_no_array(document):
    with pytest.raises(UnexpectedResponse, match=r"^GET /1.0/instances: the response is .*, not an array$"):
        several(Instance, Response(document, "", ""), "GET /1.0/instances")


def test_a_null_list_is_empty():
    assert several(Instance, Response(None, "", ""), "GET /1.0/instances") == []


def test_replacement_changes_nothing_but_the_devices():
    fields = {"architecture": "x86_64", "config": {"a": "b"}, "description": "d", "ephemeral": False}
    document = {**fields, "profiles": ["p"], "stateful": False, "devices": {"old": {}}, "status": "Running"}
    new = {"new": {"type": "disk"}}
    assert instance(**document).replacement(new) == {**fields, "profiles": ["p"], "stateful": False, "devices": new}


def test_replacement_needs_every_field():
    with pytest.raises(UnexpectedResponse, match="the field architecture of the response is missing"):
        instance(config={}).replacement({})


def test_volume_users_are_instances_only():
    urls = ["/1.0/instances/vm-1?project=p", "/1.0/virtual-machines/vm-2", "/1.0/storage-pools/x", "/1.0/profiles/y"]
    assert Volume({"used_by": urls}, endpoint="GET x").users == ["vm-1", "vm-2"]


def test_operation_knows_its_objects_on_every_server():
    resources = {"resources": {"instances": ["/1.0/instances/vm-1"]}, "metadata": None}
    newer = {"resources": None, "metadata": {"entity_url": "/1.0/instances/vm-2"}}
    assert "/1.0/instances/vm-1" in Operation(resources, endpoint="GET x").object_urls
    assert "/1.0/instances/vm-2" in Operation(newer, endpoint="GET x").object_urls


def test_operation_reads_the_field_class():
    assert Operation({"class": "token"}, endpoint="GET x").class_ == "token"


def test_server_without_certificate_is_unexpected():
    with pytest.raises(UnexpectedResponse, match=r"the field environment.certificate of the response is missing"):
        Server({"environment": {}}, endpoint="GET /1.0").certificate  # noqa: B018  reading the field is the test
