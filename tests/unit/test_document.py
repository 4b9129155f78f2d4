from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.recording import document

SHARED = {"aa": {"extensions": {"$shared": "bb"}, "api_version": "1.0"}, "bb": ["x", "y"]}


@pytest.fixture
def fixture(tmp_path):
    """Return the path of a fixture whose only call refers to a shared value."""
    path = tmp_path / "vm.json"
    content = {"format": 1, "shared": "shared.json", "calls": [{"$shared": "aa"}, {"$shared": "aa"}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "shared.json").write_text(json.dumps(SHARED), encoding="utf-8")
    return path


def test_load_replaces_references(fixture):
    value = {"extensions": ["x", "y"], "api_version": "1.0"}
    assert document.load(fixture) == {"format": 1, "calls": [value, value]}


def test_load_copies_a_shared_value_for_each_reference(fixture):
    first, second = document.load(fixture)["calls"]
    first["extensions"].append("z")
    assert second["extensions"] == ["x", "y"]


def test_load_rejects_a_reference_to_a_missing_value(fixture):
    (fixture.parent / "shared.json").write_text("{}", encoding="utf-8")
    with pytest.raises(errors.ConfigError, match=r"a value that is missing in shared\.json: 'aa'"):
        document.load(fixture)


@pytest.mark.parametrize("name", ["missing.json", "../shared.json"])
def test_load_rejects_a_missing_or_remote_shared_file(fixture, name):
    fixture.write_text(json.dumps({"format": 1, "shared": name, "calls": []}), encoding="utf-8")
    with pytest.raises(errors.ConfigError, match="cannot be read"):
        document.load(fixture)


def test_load_returns_a_capture_without_references(tmp_path):
    capture = {"format": 1, "recorded": {}, "calls": [{"stdout": {"result": None}}]}
    (tmp_path / "capture.json").write_text(document.format_document(capture), encoding="utf-8")
    assert document.load(tmp_path / "capture.json") == capture


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "calls": []}', '{"format": 1}'])
def test_load_rejects_other_files(tmp_path, content):
    (tmp_path / "file").write_text(content, encoding="utf-8")
    with pytest.raises(errors.ConfigError):
        document.load(tmp_path / "file")


@pytest.mark.parametrize(
    "value",
    [
        {"a": ["x", 'y "z"', "[]"], "b": [{"c": ["d"]}], "e": [1, 2.5, None, True], "f": ['",\n  "'], "é": "ü"},
        {"list": [{"key": "x" * 50, "number": number} for number in range(9)], "empty": [{}, []]},
        {"a": {"b": {"c": {"d": ["x" * 70] * 3, "e": "y" * 60}}}, "f": [[1, [2, ["z" * 130]]]]},
    ],
    ids=["short", "long-list", "nested"],
)
def test_format_keeps_the_value(value):
    assert json.loads(document.format_document(value)) == value


def test_format_fills_lines_up_to_120_characters():
    value = {f"key-{number}": "x" * 20 for number in range(20)}
    lines = document.format_document(value).splitlines()
    assert lines[1] == " " + ", ".join(f'"key-{number}": "{"x" * 20}"' for number in range(3)) + ","
    assert max(len(line) for line in lines) <= 120


def test_format_keeps_lists_of_strings_on_one_line():
    value = {"api_extensions": ["storage_zfs_remove_snapshots"] * 10, "auth": "trusted"}
    lines = document.format_document(value).splitlines()
    assert len(lines[1]) > 120
    assert lines[2:] == [' "auth": "trusted"', "}"]


def test_format_starts_a_new_line_after_a_nested_value():
    value = {"request": {"path": "x" * 70, "body": "y" * 60}, "n": 1}
    lines = document.format_document(value).splitlines()
    assert lines == ["{", ' "request": {', f'  "path": "{"x" * 70}",', f'  "body": "{"y" * 60}"', " },", ' "n": 1', "}"]


def test_format_closes_nested_values_on_one_line():
    value = {"n": 1, "request": {"headers": {"If-Match": "x" * 70, "Location": "y" * 60}}}
    assert document.format_document(value).splitlines()[-1] == "  }}}"
