from __future__ import annotations

import hashlib
import io
import json
import tarfile
from email import message_from_bytes

import pytest

from bosh_lxd_cpi.stemcell import upload

METADATA = upload.metadata(architecture="x86_64", created=1769853600, properties={"description": "s-1", "os": "Ubuntu"})


def body_of(chunks=(b"ab", b"c"), size=3, progress=lambda percent: None) -> upload.Upload:
    return upload.Upload(METADATA, chunks, size, boundary="bound", progress=progress)


def test_the_metadata_is_a_tar_with_one_yaml_file():
    with tarfile.open(fileobj=io.BytesIO(METADATA)) as tar:
        assert tar.getnames() == ["metadata.yaml"]
        file = tar.extractfile("metadata.yaml")
        assert file and json.load(file) == {
            "architecture": "x86_64",
            "creation_date": 1769853600,
            "properties": {"description": "s-1", "os": "Ubuntu"},
        }


def test_equal_properties_in_any_order_give_equal_metadata():
    other = upload.metadata(
        architecture="x86_64", created=1769853600, properties={"os": "Ubuntu", "description": "s-1"}
    )
    assert other == METADATA


def test_an_unknown_date_is_no_missing_date():
    """The server refuses a creation_date of 0."""
    for created in 0, -5:
        with tarfile.open(
            fileobj=io.BytesIO(upload.metadata(architecture="x86_64", created=created, properties={}))
        ) as tar:
            file = tar.extractfile("metadata.yaml")
            assert file and json.load(file) == {"architecture": "x86_64", "creation_date": 1, "properties": {}}


def test_the_body_is_metadata_and_then_rootfs_img_which_makes_it_a_virtual_machine():
    body = b"".join(body_of())
    message = message_from_bytes(b"Content-Type: multipart/form-data; boundary=bound\r\n\r\n" + body)
    parts = message.get_payload()
    assert [(part.get_param("name", header="content-disposition"), part.get_filename()) for part in parts] == [
        ("metadata", "metadata"),
        ("rootfs.img", "rootfs.img"),
    ]
    assert [part.get_payload(decode=True) for part in parts] == [METADATA, b"abc"]
    assert body.startswith(b"--bound\r\nContent-Disposition: form-data; ") and body.endswith(b"abc\r\n--bound--\r\n")


def test_the_length_is_known_before_the_body_is():
    one = body_of()
    assert one.length == len(b"".join(one))
    assert one.content_type == "multipart/form-data; boundary=bound"


def test_the_fingerprint_is_that_of_both_contents_when_all_is_sent():
    one = body_of()
    assert not one.finished
    list(one)
    assert one.finished and one.fingerprint == hashlib.sha256(METADATA + b"abc").hexdigest()


def test_a_broken_stream_never_counts_as_finished():
    def broken():
        yield b"ab"
        raise OSError("gone")

    one = body_of(broken())
    with pytest.raises(OSError):
        list(one)
    assert not one.finished


def test_progress_is_told_at_every_tenth():
    told = []
    list(body_of([b"x"] * 1000, 1000, told.append))
    assert told == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_progress_skips_tenths_that_one_chunk_covers():
    told = []
    list(body_of([b"x" * 5, b"x" * 64, b"x" * 31], 100, told.append))
    assert told == [60, 100]


def test_the_stream_is_taken_as_it_is_asked_for():
    taken = []

    def chunks():
        for number in range(3):
            taken.append(number)
            yield b"x"

    body = iter(body_of(chunks()))
    next(body)
    assert taken == []
    next(body)
    assert taken == [0]
