"""Uploads against a scripted server that reads what it gets; and what no test server does on demand."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import stemcells
from bosh_lxd_cpi.model import naming

WAIT, IMAGES, ALIASES = "GET /1.0/operations/op-1/wait", "GET /1.0/images", "POST /1.0/images/aliases"
QCOW2 = b"QFI\xfb\x00\x00\x00\x02" + bytes(72) + b"x" * 3000
PROPERTIES = {
    "name": "bosh-noble",
    "version": "1.2",
    "os_distro": "ubuntu",
    "architecture": "x86_64",
    "disk": 5120,
    "disk_format": "qcow2",
}
VM_IMAGE = {
    "fingerprint": "f1ng3r",
    "type": "virtual-machine",
    "properties": {"description": "bosh-noble-1.2"},
    "aliases": [],
}


@pytest.fixture
def tarball(tmp_path: Path) -> Callable[..., str]:
    def tarball(content: bytes = QCOW2) -> str:
        info = tarfile.TarInfo("root.img")
        info.size, info.mtime = len(content), 1769853600
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.addfile(info, io.BytesIO(content))
        (tmp_path / "image").write_bytes(gzip.compress(packed.getvalue()))
        return str(tmp_path / "image")

    return tarball


def uploading(replies, outcome=None):
    return [(IMAGES, replies.sync([])), ("POST /1.0/images", replies.asynchronous()), (WAIT, outcome or replies.done())]


def parts(body: bytes, content_type: str) -> list[bytes]:
    boundary = content_type.partition("boundary=")[2].encode()
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in body.split(b"--" + boundary)[1:-1]]


def test_create_stemcell_uploads_the_image_and_creates_an_alias(context, wire, replies, tarball):
    wire.script(*uploading(replies), (ALIASES, replies.sync()))
    call = context()
    cid = stemcells.create_stemcell(one, tarball(), PROPERTIES)
    upload, alias = wire.asked[1], wire.asked[3]
    metadata, rootfs = parts(upload.body, upload.headers["Content-Type"])
    assert rootfs == QCOW2 and upload.headers["Content-Length"] == str(len(upload.body))
    assert alias.body == {
        "name": cid,
        "target": hashlib.sha256(metadata + QCOW2).hexdigest(),
        "description": "bosh-noble 1.2",
    }
    assert cid.startswith("img-") and naming.origin(cid)


def test_create_stemcell_uses_an_existing_image(context, wire, replies):
    others = [
        {**VM_IMAGE, "properties": {"description": "bosh-noble-1.3"}},
        {**VM_IMAGE, "type": "container"},
        {**VM_IMAGE, "properties": None},
    ]
    wire.script((IMAGES, replies.sync([*others, VM_IMAGE])), (ALIASES, replies.sync()))
    stemcells.create_stemcell(context(), "/not/even/read", PROPERTIES)
    assert wire.asked[1].body["target"] == "f1ng3r"


def test_create_stemcell_uploads_without_name_and_version(context, wire, replies, tarball):
    wire.script(*uploading(replies)[1:], (ALIASES, replies.sync()))
    stemcells.create_stemcell(context(), tarball(), {"name": "bosh-noble"})


@pytest.mark.parametrize(
    "content, properties, message",
    [
        (b"\0" * 2000, PROPERTIES, "root.img is not qcow2"),
        (b"KDMV" + bytes(100), PROPERTIES, "root.img is not qcow2"),
        (b"QFI\xfb\x00\x00\x00\x02" + b"\x01" * 8, PROPERTIES, "needs a backing file"),
    ],
)
def test_rejects_invalid_image_before_upload(context, wire, replies, tarball, content, properties, message):
    wire.script((IMAGES, replies.sync([])))
    with pytest.raises(errors.CloudError, match=message):
        stemcells.create_stemcell(context(), tarball(content), properties)


@pytest.mark.parametrize("path", [None, 5, ["x"], {}])
def test_create_stemcell_rejects_invalid_path(context, path):
    with pytest.raises(errors.BadRequest, match="image_path must be the path of a file"):
        stemcells.create_stemcell(context(), path, PROPERTIES)


def test_uploads_a_raw_image_as_qcow2(context, wire, replies, tarball):
    wire.script(*uploading(replies), (ALIASES, replies.sync()))
    stemcells.create_stemcell(
        context(), tarball(bytes(200_000) + b"data" + bytes(100_000)), {**PROPERTIES, "disk_format": "raw"}
    )
    _, rootfs = parts(wire.asked[1].body, wire.asked[1].headers["Content-Type"])
    assert rootfs.startswith(b"QFI\xfb") and len(rootfs) == 6 * 65536
    assert wire.asked[1].headers["Content-Length"] == str(len(wire.asked[1].body))


def test_uploads_a_qcow2_image_declared_as_raw_unchanged(context, wire, replies, tarball):
    wire.script(*uploading(replies), (ALIASES, replies.sync()))
    stemcells.create_stemcell(context(), tarball(), {**PROPERTIES, "disk_format": "raw"})
    assert parts(wire.asked[1].body, wire.asked[1].headers["Content-Type"])[1] == QCOW2


def test_uses_the_image_that_another_call_uploaded(context, wire, replies, tarball):
    wire.script(*uploading(replies, replies.failed("Image with same fingerprint already exists")))
    wire.script(
        ("GET /1.0/images/" + fingerprint_of(context, tarball), replies.sync(VM_IMAGE)), (ALIASES, replies.sync())
    )
    stemcells.create_stemcell(context(), tarball(), PROPERTIES)


def fingerprint_of(context, tarball) -> str:
    """The image's fingerprint, from the upload of an equal call."""
    from bosh_lxd_cpi.stemcell import upload

    about = {
        "description": "bosh-noble-1.2",
        "os": "Ubuntu",
        "architecture": "x86_64",
        "root_device_name": "/",
        "bosh.stemcell": "bosh-noble 1.2",
        "bosh.director": "d1r",
        "root_disk_size": "5120MiB",
    }
    metadata = upload.metadata(architecture="x86_64", created=1769853600, properties=about)
    return hashlib.sha256(metadata + QCOW2).hexdigest()


@pytest.mark.parametrize("loss", ["answer", "operation"])
def test_looks_for_the_image_when_the_result_is_lost(context, wire, replies, tarball, loss):
    steps = uploading(replies, replies.error("Operation not found", 404))
    wire.script(*(steps if loss == "operation" else [steps[0], (steps[1][0], errors.NoResponse("reset"))]))
    wire.script(
        ("GET /1.0/images/" + fingerprint_of(context, tarball), replies.sync(VM_IMAGE)), (ALIASES, replies.sync())
    )
    stemcells.create_stemcell(context(), tarball(), PROPERTIES)


def test_raises_no_response_when_the_image_is_missing(context, wire, replies, tarball):
    steps = uploading(replies)
    wire.script(
        steps[0],
        (steps[1][0], errors.NoResponse("reset")),
        ("GET /1.0/images/" + fingerprint_of(context, tarball), replies.error("Image not found", 404)),
    )
    with pytest.raises(errors.NoResponse):
        stemcells.create_stemcell(context(), tarball(), PROPERTIES)


def test_create_stemcell_rolls_back_the_alias(context, wire, replies, clock):
    cid = f"img-{naming.new_id(type(clock)(), 'd1r')}"
    wire.script(
        (IMAGES, replies.sync([VM_IMAGE])),
        (ALIASES, replies.error("odd")),
        (f"DELETE /1.0/images/aliases/{cid}", replies.error("no", 404)),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        stemcells.create_stemcell(context(), "x", PROPERTIES)


@pytest.mark.parametrize(
    "properties, question",
    [
        ({"image_fingerprint": "f1ng"}, []),
        ({"image_alias": "mine"}, [("GET /1.0/images/aliases/mine", {"target": "f1ng"})]),
    ],
)
def test_light_stemcell_is_an_alias_of_an_existing_image(context, wire, replies, properties, question):
    wire.script(
        *[(line, replies.sync(answer)) for line, answer in question],
        ("GET /1.0/images/f1ng", replies.sync(VM_IMAGE)),
        (ALIASES, replies.sync()),
    )
    stemcells.create_stemcell(context(), "", {**PROPERTIES, **properties})
    assert (wire.asked[-1].body["target"], wire.asked[-1].body["description"]) == ("f1ng3r", "light: bosh-noble 1.2")


def test_rejects_light_stemcell_without_image(context, wire, replies):
    wire.script(("GET /1.0/images/aliases/mine", replies.error("Image alias not found", 404)))
    with pytest.raises(errors.CloudError, match="the light stemcell's image mine is not on the server") as raised:
        stemcells.create_stemcell(context(), "", {"image_alias": "mine"})
    assert "Import it into project prod" in raised.value.hint


def test_rejects_container_image_as_light_stemcell(context, wire, replies):
    wire.script(("GET /1.0/images/f1ng", replies.sync({**VM_IMAGE, "type": "container"})))
    with pytest.raises(errors.CloudError, match="image f1ng3r is for containers"):
        stemcells.create_stemcell(context(), "", {"image_fingerprint": "f1ng"})


# -- delete --------------------------------------------------------------------------------------------------------------


def deleting(replies, *names, description="bosh-noble 1.2"):
    return [
        (
            "GET /1.0/images/aliases/img-1",
            replies.sync({"name": "img-1", "target": "f1ng3r", "description": description}),
        ),
        ("GET /1.0/images/f1ng3r", replies.sync({**VM_IMAGE, "aliases": [{"name": name} for name in names]})),
    ]


def test_delete_stemcell_deletes_the_image_with_its_last_alias(context, wire, replies):
    wire.script(
        *deleting(replies, "img-1"), ("DELETE /1.0/images/f1ng3r", replies.asynchronous()), (WAIT, replies.done())
    )
    stemcells.delete_stemcell(context(), "img-1")


@pytest.mark.parametrize(
    "names, description", [(["img-1", "img-2"], "bosh-noble 1.2"), (["img-1"], "light: bosh-noble 1.2")]
)
def test_delete_stemcell_keeps_an_image_that_others_use(context, wire, replies, names, description):
    wire.script(
        *deleting(replies, *names, description=description), ("DELETE /1.0/images/aliases/img-1", replies.sync())
    )
    stemcells.delete_stemcell(context(), "img-1")


@pytest.mark.parametrize("step", range(3))
def test_delete_stemcell_succeeds_when_it_is_missing(context, wire, replies, step):
    steps = [*deleting(replies, "img-1"), ("DELETE /1.0/images/f1ng3r", None)][: step + 1]
    wire.script(*steps[:-1], (steps[-1][0], replies.error("Image not found", 404)))
    stemcells.delete_stemcell(context(), "img-1")


# -- predeploy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_predeploying_deletes_its_vm(context, wire, replies, clock, outcome):
    drawing = type(clock)()
    cid, vm = (f"{kind}-{naming.new_id(one, 'd1r')}" for kind in ("img", "vm"))
    wire.script(
        (IMAGES, replies.sync([VM_IMAGE])),
        (ALIASES, replies.sync()),
        ("POST /1.0/instances", replies.asynchronous()),
        (WAIT, replies.done() if outcome == "done" else replies.failed("odd")),
        (f"DELETE /1.0/instances/{vm}", replies.error("no", 404)),
    )
    if outcome == "failed":
        wire.script((f"DELETE /1.0/images/aliases/{cid}", replies.sync()))
        with pytest.raises(errors.ServerError, match="odd"):
            stemcells.create_stemcell(context(predeploy_stemcell=True), "x", PROPERTIES)
    else:
        assert stemcells.create_stemcell(context(predeploy_stemcell=True), "x", PROPERTIES) == cid
    assert wire.asked[2].body["source"] == {"type": "image", "fingerprint": "f1ng3r"}


@pytest.mark.parametrize("clustered, target", [(False, None), (True, "m1")])
def test_predeploying_uses_the_target_on_a_cluster_only(context, wire, replies, clock, clustered, target):
    vm = f"vm-{[naming.new_id(one, 'd1r') for one in [type(clock)()] for _ in range(2)][1]}"
    server = {
        "auth": "trusted",
        "api_extensions": [],
        "environment": {"server": "incus", "server_version": "6.0", "server_clustered": clustered},
    }
    wire.script(
        (IMAGES, replies.sync([VM_IMAGE])),
        (ALIASES, replies.sync()),
        ("GET /1.0", replies.sync(server)),
        ("POST /1.0/instances", replies.sync()),
        (f"DELETE /1.0/instances/{vm}", replies.sync()),
    )
    stemcells.create_stemcell(context(predeploy_stemcell=True, target="m1"), "x", PROPERTIES)
    assert wire.asked[3].query.get("target") == target
