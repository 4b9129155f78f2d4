from __future__ import annotations

import hashlib
import io
import itertools
import json
import socket
import tarfile
from email import message_from_bytes

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.lxd.client import Client
from bosh_lxd_cpi.lxd.transport import ConnectionSettings, HttpTransport
from bosh_lxd_cpi.runtime.clock import Clock, Deadline
from bosh_lxd_cpi.stemcell import upload
from bosh_lxd_cpi.stemcell.read_ahead import read_ahead

METADATA = upload.metadata(architecture="x86_64", created=1769853600, properties={"description": "s-1", "os": "Ubuntu"})


def body_of(chunks=(b"ab", b"c"), size=3, progress=lambda percent: None) -> upload.Upload:
    return upload.Upload(METADATA, chunks, size, boundary="bound", progress=progress)


def test_metadata_is_a_tar_with_one_yaml_file():
    with tarfile.open(fileobj=io.BytesIO(METADATA)) as tar:
        assert tar.getnames() == ["metadata.yaml"]
        file = tar.extractfile("metadata.yaml")
        assert file and json.load(file) == {
            "architecture": "x86_64",
            "creation_date": 1769853600,
            "properties": {"description": "s-1", "os": "Ubuntu"},
        }


def test_metadata_does_not_depend_on_order_of_properties():
    other = upload.metadata(
        architecture="x86_64", created=1769853600, properties={"os": "Ubuntu", "description": "s-1"}
    )
    assert other == METADATA


def test_unknown_time_becomes_one():
    """The server rejects a creation_date of 0."""
    for created in 0, -5:
        with tarfile.open(
            fileobj=io.BytesIO(upload.metadata(architecture="x86_64", created=created, properties={}))
        ) as tar:
            file = tar.extractfile("metadata.yaml")
            assert file and json.load(file) == {"architecture": "x86_64", "creation_date": 1, "properties": {}}


def test_body_has_parts_metadata_and_rootfs_img():
    body = b"".join(body_of())
    message = message_from_bytes(b"Content-Type: multipart/form-data; boundary=bound\r\n\r\n" + body)
    parts = message.get_payload()
    assert [(part.get_param("name", header="content-disposition"), part.get_filename()) for part in parts] == [
        ("metadata", "metadata"),
        ("rootfs.img", "rootfs.img"),
    ]
    assert [part.get_payload(decode=True) for part in parts] == [METADATA, b"abc"]
    assert body.startswith(b"--bound\r\nContent-Disposition: form-data; ") and body.endswith(b"abc\r\n--bound--\r\n")


def test_length_is_available_before_body_is_read():
    upload_body = body_of()
    assert upload_body.length == len(b"".join(upload_body))
    assert upload_body.content_type == "multipart/form-data; boundary=bound"


def test_is_finished_after_the_last_chunk():
    upload_body = body_of()
    assert not upload_body.finished
    list(upload_body)
    assert upload_body.finished


def test_fingerprints_cover_both_parts():
    fingerprints = upload.image_fingerprints([METADATA, b"other"], iter([b"a", b"bc"]))
    assert fingerprints == [hashlib.sha256(head + b"abc").hexdigest() for head in (METADATA, b"other")]


def test_is_not_finished_after_an_error():
    def failing():
        yield b"ab"
        raise OSError("gone")

    upload_body = body_of(failing())
    with pytest.raises(OSError):
        list(upload_body)
    assert not upload_body.finished


def test_reports_progress_at_every_tenth():
    reported = []
    list(body_of([b"x"] * 1000, 1000, reported.append))
    assert reported == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_large_chunks_skip_tenths():
    reported = []
    list(body_of([b"x" * 5, b"x" * 64, b"x" * 31], 100, reported.append))
    assert reported == [60, 100]


def test_reads_disk_image_lazily():
    numbers = []

    def chunks():
        for number in range(3):
            numbers.append(number)
            yield b"x"

    body = iter(body_of(chunks()))
    next(body)
    assert numbers == []
    next(body)
    assert numbers == [0]


def test_deadline_ends_upload_to_stalled_server(tmp_path, log):
    """The server accepts the connection and reads nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        with (
            HttpTransport(ConnectionSettings(url=f"unix://{tmp_path}/socket")) as transport,
            read_ahead(itertools.repeat(bytes(128 << 10))) as chunks,
            pytest.raises(errors.DeadlineExceeded, match="uploading the image"),
        ):
            body = body_of(chunks, 1 << 40)
            client = Client(transport, project="prod", deadline=Deadline(Clock(), 0.5), log=log)
            client.upload_image(body, length=body.length, content_type=body.content_type)
        assert not body.finished
