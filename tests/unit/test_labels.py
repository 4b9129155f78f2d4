from __future__ import annotations

from bosh_lxd_cpi.model import labels


def test_owner_labels_contain_director_and_time():
    assert labels.owner_labels("d1r", "2026-01-31T10:00:00Z") == {
        "user.bosh.director_uuid": "d1r",
        "user.bosh.created_at": "2026-01-31T10:00:00Z",
    }


def test_metadata_of_any_type_becomes_strings():
    assert labels.metadata_labels(
        {"a": "b", "number": 5, "bool": True, "list": [1, "x"], "map": {"b": 1, "a": 2}, "none": None, "float": 1.5}
    ) == {
        "user.bosh.a": "b",
        "user.bosh.number": "5",
        "user.bosh.bool": "true",
        "user.bosh.list": '[1, "x"]',
        "user.bosh.map": '{"a": 2, "b": 1}',
        "user.bosh.float": "1.5",
    }


def test_metadata_cannot_overwrite_labels_that_cleanup_needs():
    assert labels.metadata_labels({"state": "creating", "director_uuid": "x"}) == {
        "user.bosh.tag.state": "creating",
        "user.bosh.tag.director_uuid": "x",
    }


def test_metadata_cannot_have_keys_of_a_copy():
    assert not {labels.COPY, labels.COPIED} & labels.metadata_labels({"copy": "1", "_copy": "1"}).keys()


def test_characters_that_servers_reject_are_replaced():
    assert labels.metadata_labels({"a": "x\0y", "b": "\ud800", "c d/e:f=g": "h"}) == {
        "user.bosh.a": "x",
        "user.bosh.b": "?",
        "user.bosh.c_d_e_f_g": "h",
    }


def test_long_values_are_cut_off():
    assert labels.metadata_labels({"a": "x" * 10_000}) == {"user.bosh.a": "x" * labels.MAX_VALUE_LENGTH}
    many = labels.metadata_labels({str(number): "x" * 9000 for number in range(200)})
    assert len(many) == 200
    assert sum(map(len, many.values())) == labels.MAX_TOTAL_LENGTH


def test_metadata_is_read_back_without_prefix():
    config = {**labels.metadata_labels({"deployment": "cf", "index": 0}), "size": "1MiB", labels.COPY: "1"}
    assert labels.metadata_of(config) == {"deployment": "cf", "index": "0"}


def test_director_of_an_image_is_a_property():
    assert labels.image_director({"properties": {labels.IMAGE_DIRECTOR: "d1r"}}) == "d1r"
    assert labels.image_director({"properties": {labels.IMAGE_DIRECTOR: ""}}) == ""
    assert labels.image_director({"properties": {}}) is None
    assert labels.image_director({"properties": None}) is None


def test_copy_number_is_zero_by_default():
    assert labels.copy_number({labels.COPY: "2"}, labels.COPY) == 2
    assert labels.copy_number({labels.COPY: "2"}, labels.COPIED) == 0
