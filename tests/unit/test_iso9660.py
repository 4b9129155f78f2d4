"""Other programs read the images: blkid (util-linux), isoinfo (genisoimage), xorriso."""

from __future__ import annotations

import random
import shutil
import string
import struct
import subprocess
from pathlib import Path

import pytest

from bosh_lxd_cpi.guest.config_drive import iso9660

CONFIG_DRIVE = {"ec2/latest/meta-data.json": b"{}", "ec2/latest/user-data": b'{"agent_id": "x"}\n' * 200}


def run(*command: str | Path) -> str:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is missing: install genisoimage, xorriso and util-linux")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def write(directory: Path, files: dict[str, bytes], label: str = "config-2") -> Path:
    path = directory / "image.iso"
    path.write_bytes(iso9660.image(files, label=label))
    return path


def extract(image: Path) -> dict[str, bytes]:
    """Return the files that xorriso reads. It fails if structures of the image are inconsistent."""
    target = image.parent / "extracted"
    run(
        "xorriso",
        "-abort_on",
        "WARNING",
        "-osirrox",
        "on",
        "-indev",
        image,
        "-chmod_r",
        "u+w",
        "/",
        "--",
        "-extract",
        "/",
        target,
        "-rollback_end",
    )
    files = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    shutil.rmtree(target)
    return files


def random_tree(rng: random.Random) -> dict[str, bytes]:
    alphabet = [char for char in string.printable if char.isprintable() and char != "/"]
    directories, files = [""], {}
    for _ in range(rng.randrange(1, 60)):
        name = "".join(rng.choices(alphabet, k=rng.choice([1, 2, 8, 12, 13, 14, 40, 127, 128])))
        path = rng.choice(directories) + name
        if name in (".", "..") or path in files or path + "/" in directories:
            continue
        if rng.random() < 0.3:
            directories.append(path + "/")
            path += "/file"
        files[path] = rng.randbytes(rng.choice([0, 1, 2047, 2048, 2049, rng.randrange(10000)]))
    return files or {"file": b""}


def test_label_keeps_its_case(tmp_path):
    image = write(tmp_path, CONFIG_DRIVE, label="config-2")
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", "-s", "LABEL", image).split() == ["config-2", "iso9660"]


def test_label_may_have_32_characters(tmp_path):
    label = "Config_2." * 3 + "12345"
    assert run("blkid", "-p", "-o", "value", "-s", "LABEL", write(tmp_path, {}, label=label)) == label + "\n"


@pytest.mark.parametrize("label", ["", "x" * 33, "config 2", "c\u00f6nfig", "config-2\n", "a/b"])
def test_rejects_unsupported_label(label):
    with pytest.raises(ValueError, match=r"label .* must be 1 to 32 of the characters"):
        iso9660.image({}, label=label)


def test_rejects_unsupported_path():
    with pytest.raises(ValueError, match=r"must not contain '..'"):
        iso9660.image({"../a": b""}, label="config-2")


def test_files_and_directories_are_for_root_only(tmp_path):
    listing = run("isoinfo", "-R", "-l", "-i", write(tmp_path, CONFIG_DRIVE))
    entries = [line.split() for line in listing.splitlines() if "[" in line]
    assert [(entry[-1], *entry[:5], int(entry[9])) for entry in entries] == [
        (".", "dr-x------", "3", "0", "0", "2048", 20),
        ("..", "dr-x------", "3", "0", "0", "2048", 20),
        ("ec2", "dr-x------", "3", "0", "0", "2048", 21),
        (".", "dr-x------", "3", "0", "0", "2048", 21),
        ("..", "dr-x------", "3", "0", "0", "2048", 20),
        ("latest", "dr-x------", "2", "0", "0", "2048", 22),
        (".", "dr-x------", "2", "0", "0", "2048", 22),
        ("..", "dr-x------", "3", "0", "0", "2048", 21),
        ("meta-data.json", "-r--------", "1", "0", "0", "2", 23),
        ("user-data", "-r--------", "1", "0", "0", "3600", 24),
    ]


def test_records_follow_ecma_119():
    """ECMA-119 9.1 and 9.3, which readers do not check: even lengths, sorted names, versions, extents in the image."""
    image = iso9660.image({"b": b"", "c": b"", "even": b"", "z/odd": b""}, label="config-2")
    record, identifiers = image[20 * 2048 : 21 * 2048], []
    while record[0]:
        length, sector = record[0], struct.unpack_from("<I", record, 2)[0]
        assert length % 2 == 0
        assert sector * 2048 < len(image)
        identifiers.append((record[25], record[33 : 33 + record[32]]))
        record = record[length:]
    directories, files = identifiers[:3], identifiers[3:]
    assert [flags for flags, _ in directories] == [2, 2, 2] and [flags for flags, _ in files] == [0, 0, 0]
    assert all(name.endswith(b".;1") for _, name in files)
    assert sorted(name for _, name in identifiers) == [name for _, name in identifiers]


def test_isoinfo_reads_file_by_rock_ridge_name(tmp_path):
    image = write(tmp_path, CONFIG_DRIVE)
    assert run("isoinfo", "-R", "-x", "/ec2/latest/user-data", "-i", image) == '{"agent_id": "x"}\n' * 200


def test_both_path_tables_have_the_same_directories(tmp_path):
    image = write(tmp_path, {"a/b/c/file": b"", "a/d/file": b"", "e/file": b""})
    data = image.read_bytes()
    descriptor = data[16 * 2048 : 17 * 2048]
    (size,) = struct.unpack_from("<I", descriptor, 132)
    tables = []
    for order, pointer in ("<", 140), (">", 148):
        start = 2048 * struct.unpack_from(order + "I", descriptor, pointer)[0]
        table, rows = data[start : start + size], []
        while table:
            length, _, sector, parent = struct.unpack_from(order + "BBIH", table)
            rows.append((sector, parent, table[8 : 8 + length]))
            table = table[8 + length + length % 2 :]
        tables.append(rows)
    assert tables[0] == tables[1]
    assert [parent for _, parent, _ in tables[0]] == [1, 1, 1, 2, 2, 4]
    isoinfo_rows = [line.split() for line in run("isoinfo", "-p", "-i", image).splitlines()[2:]]  # the root has no name
    assert [(int(sector, 16), int(parent), name.encode()) for _, parent, sector, name in isoinfo_rows] == tables[0][1:]


def test_directory_may_need_several_sectors(tmp_path):
    files = {f"many/{number:04}-{'n' * (number % 120)}": b"%d" % number for number in range(1500)}
    assert extract(write(tmp_path, files)) == files


def test_path_tables_may_need_several_sectors(tmp_path):
    files = {f"{number}/{number}": b"%d" % number for number in range(300)}
    assert extract(write(tmp_path, files)) == files


def test_directories_may_be_deeper_than_eight_levels(tmp_path):
    files = {"/".join(f"level-{level}" for level in range(40)): b"deep"}
    assert extract(write(tmp_path, files)) == files


def test_keeps_large_and_empty_files(tmp_path):
    files = {"large": random.Random(1).randbytes(5 * 1024 * 1024 + 1), "empty": b"", "zz-last-and-empty": b""}
    image = write(tmp_path, files)
    assert extract(image) == files
    (sectors,) = struct.unpack_from("<I", image.read_bytes(), 16 * 2048 + 80)
    assert image.stat().st_size == sectors * 2048


def test_random_trees_are_read_back(tmp_path):
    for seed in range(30):
        files = random_tree(random.Random(seed))
        assert extract(write(tmp_path, files)) == files, f"seed {seed}"


def test_bytes_do_not_depend_on_order_of_files():
    files = random_tree(random.Random(7))
    assert iso9660.image(files, label="x") == iso9660.image(dict(reversed(files.items())), label="x")


def test_config_drive_is_small():
    files = {"ec2/latest/meta-data.json": bytes(4096), "ec2/latest/user-data": bytes(4096)}
    assert len(iso9660.image(files, label="config-2")) < 100 * 1024
