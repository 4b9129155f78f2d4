from __future__ import annotations

import dataclasses

import pytest

from bosh_lxd_cpi.admin.cleanup import table
from bosh_lxd_cpi.admin.inventory import DISK, IMAGE, ORPHAN, SNAPSHOT, UNKNOWN_OWNER, VM, Inventory, Resource
from bosh_lxd_cpi.admin.output import Terminal

NOW = 1_770_000_000.0
INVENTORY = Inventory(directors={"733ab989ac49": "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d"})
RESOURCES = [
    Resource(
        kind=VM,
        cid="vm-1-a",
        director="733ab989ac49",
        created=NOW - 7300,
        size=10240.0,
        pool="default",
        deployment="zookeeper",
        instance="zk/0",
    ),
    Resource(
        kind=DISK,
        cid="vol-p-2-b",
        director=UNKNOWN_OWNER,
        created=None,
        size=64.0,
        state=ORPHAN,
        pool="fast",
        location="m2",
    ),
    Resource(
        kind=IMAGE, cid="78c6e383a417ad574612", director="733ab989ac49", created=NOW, used_by=("vm-1-a", "vm-2-a")
    ),
]


def test_prints_an_aligned_table():
    assert table.as_table(INVENTORY, RESOURCES, now=NOW, terminal=Terminal()).splitlines() == [
        "KIND   AGE  SIZE   POOL     DEPLOYMENT  INSTANCE  DIRECTOR  STATE   USED BY  CID",
        "vm     2h   10GiB  default  zookeeper   zk/0      7d0f3a52  -       -        vm-1-a",
        "disk   ?    64MiB  fast@m2  -           -         ?         orphan  -        vol-p-2-b",
        "image  0s   ?      -        -           -         7d0f3a52  -       2 VMs    78c6e383a417",
        "3 resources: 1 vm, 1 disk, 1 image, 1 orphan",
    ]


def test_replaces_control_characters():
    resources = [dataclasses.replace(RESOURCES[0], deployment="d\n\u00e4\x1b[31m")]
    text = table.as_table(INVENTORY, resources, now=NOW, terminal=Terminal())
    assert "d?\u00e4?[31m" in text and len(text.splitlines()) == 3


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes stdout a terminal of this width."""

    def make(width):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        return Terminal()

    return make


def test_fits_the_terminal(terminal):
    disk = f"vol-p-{'d' * 36}"
    resources = [
        dataclasses.replace(RESOURCES[1], cid=disk, deployment="zookeeper-production", used_by=("vm-1",) * 12),
        Resource(kind=SNAPSHOT, cid=f"{disk}_snap-{'e' * 36}", director="?", created=NOW),
    ]
    header, *lines, _ = table.as_table(INVENTORY, resources, now=NOW, terminal=terminal(80)).splitlines()
    assert header.split() == ["KIND", "AGE", "STATE", "CID"]
    assert [line.split()[-1] for line in lines] == [disk, f"..._snap-{'e' * 36}"]
    assert max(map(len, [header, *lines])) <= 80
    wide, *_ = table.as_table(INVENTORY, resources, now=NOW, terminal=terminal(200)).splitlines()
    assert tuple(wide.split("  ")[0:1]) == ("KIND",) and "USED BY" in wide


def test_returns_objects_with_unabbreviated_values():
    vm, disk, image = table.as_objects(INVENTORY, RESOURCES, now=NOW, cpi="second")
    assert vm == {
        "kind": "vm",
        "cid": "vm-1-a",
        "director": "7d0f3a52-5f1e-4c60-9c1e-2f4f6a1b0c3d",
        "deployment": "zookeeper",
        "instance": "zk/0",
        "created_at": "2026-02-02T00:38:20Z",
        "age": 7300,
        "size": 10240.0,
        "pool": "default",
        "location": "",
        "used_by": [],
        "state": "",
        "cpi": "second",
    }
    assert (disk["director"], disk["created_at"], disk["age"], disk["state"]) == ("?", None, None, "orphan")
    assert (image["cid"], image["size"], image["used_by"]) == ("78c6e383a417ad574612", None, ["vm-1-a", "vm-2-a"])


def test_prints_an_empty_inventory():
    text = table.as_table(Inventory(), [], now=NOW, terminal=Terminal())
    assert text == "  ".join(table.COLUMNS) + "\n0 resources"
    assert table.as_objects(Inventory(), [], now=NOW) == []


@pytest.mark.parametrize(
    "seconds, text",
    [
        (None, "?"),
        (-3, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (86399, "23h"),
        (86400, "1d"),
        (31536000, "365d"),
    ],
)
def test_formats_an_age_with_one_unit(seconds, text):
    assert table.age(seconds) == text


@pytest.mark.parametrize(
    "mib, text", [(None, "?"), (0.05, "51KiB"), (1, "1MiB"), (10239, "10239MiB"), (10240, "10GiB")]
)
def test_formats_a_size(mib, text):
    assert table.size(mib) == text
