"""The root file systems of test hosts: built once, replaced when the recipe changes, removed when unused."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host import kinds, machine, rootfs, server

REASON = server.unsupported_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

BUILD_FAST = """
import pathlib, sys
from tests.host import rootfs
rootfs.TREES, rootfs.RECIPE = pathlib.Path(sys.argv[1]), sys.argv[2]
print(rootfs.build("lxd"))
"""


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty directory of root file systems, and a fast recipe."""
    monkeypatch.setattr(rootfs, "TREES", tmp_path)
    monkeypatch.setattr(rootfs, "RECIPE", 'mkdir "$TREE"; echo $PACKAGES > "$TREE/packages"')
    return tmp_path


def test_builds_once(trees):
    first = rootfs.build("lxd")
    (first / "mark").touch()
    assert rootfs.build("lxd") == first == rootfs.path("lxd")
    assert (first / "mark").exists()
    assert (first / "packages").read_text(encoding="utf-8").split() == list(kinds.KINDS["lxd"].packages)


def test_changed_recipe_replaces_rootfs(trees, monkeypatch):
    old = rootfs.build("lxd")
    monkeypatch.setattr(rootfs, "RECIPE", rootfs.RECIPE + "\n# changed")
    new = rootfs.build("lxd")
    assert new != old
    assert (new.exists(), old.exists()) == (True, False)


def test_keeps_rootfs_in_use(trees, monkeypatch):
    old = rootfs.build("lxd")
    monkeypatch.setattr(rootfs, "RECIPE", rootfs.RECIPE + "\n# changed")
    script = f"mount --bind {old} {old} && echo mounted && read line"
    command = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"mounted\n"
        rootfs.build("lxd")
        assert old.exists()
        process.communicate(b"\n")


def test_failed_build_leaves_nothing_and_shows_log(trees, monkeypatch):
    monkeypatch.setattr(rootfs, "RECIPE", 'mkdir "$TREE"; echo "no such suite" >&2; exit 1')
    with pytest.raises(machine.HostError, match=r"the lxd tree failed; the end of .*/lxd\.log:\n  no such suite"):
        rootfs.build("lxd")
    assert not rootfs.path("lxd").exists()


def is_mounted(folder: Path) -> bool:
    """Return whether any process has a mount below the directory."""
    mounted = False
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            mounted |= str(folder) in mounts.read_text(encoding="utf-8")
    return mounted


def test_interrupted_build_stops_and_restarts(trees, monkeypatch):
    slow = 'mkdir -p "$TREE/proc"; mount -t proc proc "$TREE/proc"; echo mounted; test -e "$TREE/../go" || sleep 600'
    monkeypatch.setattr(rootfs, "RECIPE", slow)
    with subprocess.Popen([sys.executable, "-c", BUILD_FAST, trees, slow], stderr=subprocess.DEVNULL) as builder:
        assert machine.wait_until(lambda: "mounted" in machine.tail(trees / "lxd.log"), seconds=20)
        assert is_mounted(trees)
        builder.kill()
    assert machine.wait_until(lambda: not is_mounted(trees), seconds=20)
    (trees / "go").touch()
    assert rootfs.build("lxd").exists()


def test_concurrent_builds_build_once(trees):
    recipe = 'mkdir "$TREE"; sleep 0.5; echo built >> "$TREE/../count"'
    command = [sys.executable, "-c", BUILD_FAST, trees, recipe]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    builders = [subprocess.Popen(command, **pipes) for _ in range(2)]
    paths = {builder.communicate()[0] for builder in builders}
    assert len(paths) == 1
    assert (trees / "count").read_text(encoding="utf-8") == "built\n"
