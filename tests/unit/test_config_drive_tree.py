from __future__ import annotations

import pytest

from bosh_lxd_cpi.guest.config_drive import tree


def test_root_directory_is_empty_without_files():
    assert tree.directories([]) == {"": []}


def test_directories_are_sorted_by_level():
    directories = tree.directories(["z/y/x", "a", "b/d/f", "b/c", "z/w"])
    assert list(directories.items()) == [
        ("", ["a", "b", "z"]),
        ("b", ["b/c", "b/d"]),
        ("z", ["z/w", "z/y"]),
        ("b/d", ["b/d/f"]),
        ("z/y", ["z/y/x"]),
    ]


def test_joins_and_splits_paths():
    assert [tree.join("", "a"), tree.join("a/b", "c")] == ["a", "a/b/c"]
    assert [tree.parent(""), tree.parent("a"), tree.parent("a/b/c")] == ["", "", "a/b"]


def test_accepts_longest_name():
    name = "n" * tree.NAME_MAX
    assert tree.directories([name]) == {"": [name]}


@pytest.mark.parametrize(
    "paths, message",
    [
        ([""], "path '' must be relative and without empty components"),
        (["/etc/passwd"], "path '/etc/passwd' must be relative and without empty components"),
        (["a//b"], "path 'a//b' must be relative and without empty components"),
        (["a/"], "path 'a/' must be relative and without empty components"),
        (["a/../b"], "path 'a/../b' must not contain '..'"),
        (["./a"], "path './a' must not contain '.'"),
        (["caf\u00e9"], "path 'caf\u00e9' must be printable ASCII"),
        (["a\nb"], r"path 'a\nb' must be printable ASCII"),
        (["a\0b"], r"path 'a\x00b' must be printable ASCII"),
        (["d/" + "n" * 129], f"name '{'n' * 129}' is longer than 128 characters"),
        (["a/b", "a"], "'a' is both a file and a directory"),
        (["a/b/c", "a/b"], "'a/b' is both a file and a directory"),
    ],
)
def test_rejects_unsupported_paths(paths, message):
    with pytest.raises(ValueError) as raised:
        tree.directories(paths)
    assert str(raised.value) == message
