"""Other programs read the images: blkid (util-linux), fsck.fat (dosfstools), mtools."""

from __future__ import annotations

import random
import shutil
import string
import subprocess
from pathlib import Path

import pytest

from bosh_lxd_cpi.guest.config_drive import fat

CONFIG_DRIVE = {"ec2/latest/meta-data.json": b"{}", "ec2/latest/user-data": b'{"agent_id": "x"}\n' * 200}
MIB = 1024 * 1024


def run(*command: str | Path) -> str:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is missing: install dosfstools, mtools and util-linux")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and not result.stderr, result.stdout + result.stderr
    return result.stdout


def write(directory: Path, files: dict[str, bytes], label: str = "config-2") -> Path:
    path = directory / "image.fat"
    path.write_bytes(fat.image(files, label=label))
    return path


def extract(image: Path) -> dict[str, bytes]:
    """Return the files that mtools reads, after fsck.fat checked the image."""
    run("fsck.fat", "-n", image)
    target = image.parent / "extracted"
    target.mkdir()
    run("mcopy", "-s", "-i", image, "::*", target)
    files = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    shutil.rmtree(target)
    return files


def random_tree(rng: random.Random) -> dict[str, bytes]:
    alphabet = string.ascii_letters + string.digits + " !#$%&'()+,-.;=@[]^_`{}"
    directories, files, names = [""], {}, set()
    for _ in range(rng.randrange(1, 60)):
        name = "".join(rng.choices(alphabet, k=rng.choice([1, 2, 8, 12, 13, 14, 26, 40, 127]))).strip(" ") + "e"
        path = rng.choice(directories) + name
        if path.lower() in names:
            continue
        names.add(path.lower())
        if rng.random() < 0.3:
            directories.append(path + "/")
            path += "/File"
            names.add(path.lower())
        files[path] = rng.randbytes(rng.choice([0, 1, 511, 512, 513, rng.randrange(10000)]))
    return files


def test_label_is_upper_case_in_both_places(tmp_path):
    fields = run("blkid", "-p", "-o", "export", write(tmp_path, CONFIG_DRIVE)).splitlines()
    assert {"TYPE=vfat", "VERSION=FAT12", "LABEL=CONFIG-2", "LABEL_FATBOOT=CONFIG-2"} <= set(fields)


def test_label_may_have_11_characters(tmp_path):
    assert (
        run("mlabel", "-s", "-i", write(tmp_path, CONFIG_DRIVE, label="elevenchars"), "::")
        == " Volume label is ELEVENCHARS\n"
    )


@pytest.mark.parametrize("label", ["", "x" * 12, "config 2", "c\u00f6nfig", "stra\u00dfe", "config-2\n", "a.b"])
def test_rejects_unsupported_label(label):
    with pytest.raises(ValueError, match=r"label .* must be 1 to 11 of the characters"):
        fat.image({}, label=label)


def test_names_keep_their_case_and_length(tmp_path):
    listing = run("mdir", "-b", "-/", "-i", write(tmp_path, CONFIG_DRIVE), "::").split()
    assert listing == ["::/ec2/", "::/ec2/latest/", "::/ec2/latest/meta-data.json", "::/ec2/latest/user-data"]


def test_parts_of_long_name_are_in_reverse_order():
    """fatgen103 and Linux require it; mtools and fsck.fat accept any order."""
    name = "a-name-of-twenty-seven-char"
    image = fat.image({name: b""}, label="config-2")
    label, *parts, short = [image[start : start + 32] for start in range(25 * 512, 25 * 512 + 5 * 32, 32)]
    assert [part[0] for part in parts] == [0x43, 2, 1]
    characters = b"".join(part[1:11] + part[14:26] + part[28:] for part in reversed(parts))
    assert characters == name.encode("utf-16-le") + b"\0\0" + 22 * b"\xff"
    assert (label[:11], short[:11]) == (b"CONFIG-2   ", b"~0000000   ")


@pytest.mark.parametrize(
    "path",
    [
        "a:b",
        "what?",
        "a\\b",
        "a*",
        'a"',
        "<a",
        ">a",
        "a|b",
        "~0000001",
        "dot.",
        "dot./a",
        "space ",
        "space /a",
        " a",
        "a/ b",
    ],
)
def test_rejects_names_that_fat_does_not_allow(path):
    with pytest.raises(ValueError, match="has a character or ending that FAT does not allow"):
        fat.image({path: b""}, label="config-2")


@pytest.mark.parametrize("paths", [("User-Data", "user-data"), ("A/b", "a/c"), ("A", "a/b")])
def test_rejects_names_that_differ_in_case_only(paths):
    with pytest.raises(ValueError, match="are the same name on FAT"):
        fat.image(dict.fromkeys(paths, b""), label="config-2")


def test_rejects_unsupported_path():
    with pytest.raises(ValueError, match=r"must not contain '..'"):
        fat.image({"../a": b""}, label="config-2")


def test_directory_may_need_several_clusters(tmp_path):
    names = [f"{number:04}-{'n' * (number % 120)}" for number in range(500)]
    files = {directory + name: name.encode() for directory in ("", "many/") for name in names}
    assert extract(write(tmp_path, files)) == files


def test_directories_may_be_deep(tmp_path):
    files = {"/".join(f"level-{level}" for level in range(30)): b"deep"}
    assert extract(write(tmp_path, files)) == files


def test_file_system_may_be_empty(tmp_path):
    run("fsck.fat", "-n", write(tmp_path, {}))


@pytest.mark.parametrize("size", [MIB - 14 * 1024, MIB, 2 * MIB - 1, 4068 * 512, 4068 * 512 + 1, 40 * MIB])
def test_cluster_size_grows_with_content(tmp_path, size):
    files = {"large": random.Random(size).randbytes(size), "empty": b""}
    image = write(tmp_path, files)
    assert extract(image) == files
    assert image.stat().st_size % MIB == 0
    assert image.stat().st_size - size < MIB + 32 * 1024
    assert "VERSION=FAT12" in run("blkid", "-p", "-o", "export", image)


def test_long_root_directory_stays_fat12(tmp_path):
    files = {f"{number:0100}": b"" for number in range(300)} | {"large": bytes(4000 * 512)}
    image = write(tmp_path, files)
    assert extract(image) == files
    assert "VERSION=FAT12" in run("blkid", "-p", "-o", "export", image)


def test_rejects_too_much_content():
    with pytest.raises(ValueError, match=r"^133300225 bytes in files and directories are too many for FAT12"):
        fat.image({"large": bytes(4068 * 32768 + 1)}, label="config-2")


def test_rejects_too_many_files():
    with pytest.raises(ValueError, match="5001 files and directories are too many for FAT12"):
        fat.image({f"{number}": b"" for number in range(5000)}, label="config-2")


def test_random_trees_are_read_back(tmp_path):
    for seed in range(30):
        files = random_tree(random.Random(seed))
        assert extract(write(tmp_path, files)) == files, f"seed {seed}"


def test_bytes_do_not_depend_on_order_of_files():
    files = random_tree(random.Random(7))
    assert fat.image(files, label="x") == fat.image(dict(reversed(files.items())), label="X")


def test_serial_number_depends_on_content(tmp_path):
    def serial(content: bytes) -> str:
        return run("blkid", "-p", "-o", "value", "-s", "UUID", write(tmp_path, {"a": content}))

    assert serial(b"1") != serial(b"2")


def test_config_drive_has_one_mib():
    files = {"ec2/latest/meta-data.json": bytes(4096), "ec2/latest/user-data": bytes(4096)}
    assert len(fat.image(files, label="config-2")) == MIB
