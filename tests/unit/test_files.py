from __future__ import annotations

import os
import stat

import pytest

from bosh_lxd_cpi.runtime.files import write_file


def test_writes_content_and_mode_whatever_the_umask(tmp_path):
    previous = os.umask(0o777)
    try:
        write_file(tmp_path / "file", b"data", mode=0o640)
    finally:
        os.umask(previous)
    assert (tmp_path / "file").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_replaces_content_and_leaves_no_other_file(tmp_path):
    for data in (b"old", b"new"):
        write_file(str(tmp_path / "file"), data, mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_keeps_the_old_file_when_the_write_fails(tmp_path):
    (tmp_path / "directory" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        write_file(tmp_path / "directory", b"data", mode=0o600)
    assert os.listdir(tmp_path) == ["directory"]
