from __future__ import annotations

import errno
import os
import stat

import pytest

from bosh_lxd_cpi.runtime.files import write_file


def fail(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_writes_strings_as_utf8(tmp_path):
    write_file(tmp_path / "file", "größe\r\n", mode=0o600)
    assert (tmp_path / "file").read_bytes() == "größe\r\n".encode()


def test_writes_bytes(tmp_path):
    write_file(str(tmp_path / "file"), b"\0\xff", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"\0\xff"


def test_replaces_an_existing_file(tmp_path):
    for content in ("old", "new"):
        write_file(tmp_path / "file", content, mode=0o600)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644], ids=oct)
def test_sets_the_mode_regardless_of_the_umask(tmp_path, mode):
    umask = os.umask(0o077)
    try:
        write_file(tmp_path / "file", "", mode=mode)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_writes_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file("file", "x", mode=0o600)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize("function", ["fsync", "fchmod", "replace"])
def test_keeps_the_old_file_when_writing_fails(tmp_path, monkeypatch, function):
    write_file(tmp_path / "file", "old", mode=0o600)
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "file", "new", mode=0o600)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_syncs_before_the_rename(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda source, target: calls.append("replace"))
    write_file(tmp_path / "file", "x", mode=0o600)
    assert calls == ["fsync", "replace"]


def test_fails_when_the_target_is_a_directory(tmp_path):
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        write_file(tmp_path / "directory", "x", mode=0o600)
    assert list(tmp_path.iterdir()) == [tmp_path / "directory"]


def test_fails_when_the_directory_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "file", "x", mode=0o600)
