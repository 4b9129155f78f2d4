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


def test_a_stemcell_is_uploaded_and_gets_an_alias(cpi, wire, replies, tarball):
    wire.script(*uploading(replies), (ALIASES, replies.sync()))
    one = cpi()
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


def test_an_equal_stemcell_gets_another_alias_only(cpi, wire, replies):
    others = [
        {**VM_IMAGE, "properties": {"description": "bosh-noble-1.3"}},
        {**VM_IMAGE, "type": "container"},
        {**VM_IMAGE, "properties": None},
    ]
    wire.script((IMAGES, replies.sync([*others, VM_IMAGE])), (ALIASES, replies.sync()))
    stemcells.create_stemcell(cpi(), "/not/even/read", PROPERTIES)
    assert wire.asked[1].body["target"] == "f1ng3r"


def test_without_name_and_version_no_stemcell_is_equal(cpi, wire, replies, tarball):
    wire.script(*uploading(replies)[1:], (ALIASES, replies.sync()))
    stemcells.create_stemcell(cpi(), tarball(), {"name": "bosh-noble"})


@pytest.mark.parametrize(
    "content, properties, message",
    [
        (b"\0" * 2000, PROPERTIES, "root.img is not qcow2"),
        (b"KDMV" + bytes(100), PROPERTIES, "root.img is not qcow2"),
        (b"QFI\xfb\x00\x00\x00\x02" + b"\x01" * 8, PROPERTIES, "needs a backing file"),
    ],
)
def test_what_is_no_disk_image_is_refused_before_the_server_gets_a_byte(
    cpi, wire, replies, tarball, content, properties, message
):
    wire.script((IMAGES, replies.sync([])))
    with pytest.raises(errors.CloudError, match=message):
        stemcells.create_stemcell(cpi(), tarball(content), properties)


@pytest.mark.parametrize("path", [None, 5, ["x"], {}])
def test_a_path_that_is_none_is_refused(cpi, path):
    with pytest.raises(errors.BadRequest, match="image_path must be the path of a file"):
        stemcells.create_stemcell(cpi(), path, PROPERTIES)


def test_a_raw_stemcell_goes_up_as_qcow2(cpi, wire, replies, tarball):
    wire.script(*uploading(replies), (ALIASES, replies.sync()))
    stemcells.create_stemcell(
        cpi(), tarball(bytes(200_000) + b"data" + bytes(100_000)), {**PROPERTIES, "disk_format": "raw"}
    )
    _, rootfs = parts(wire.asked[1].body, wire.asked[1].headers["Content-Type"])
    assert rootfs.startswith(b"QFI\xfb") and len(rootfs) == 6 * 65536
    assert wire.asked[1].headers["Content-Length"] == str(len(wire.asked[1].body))


def test_a_stemcell_that_only_says_it_is_raw_goes_up_as_it_is(cpi, wire, replies, tarball):
    wire.script(*uploading(replies), (ALIASES, replies.sync()))
    stemcells.create_stemcell(cpi(), tarball(), {**PROPERTIES, "disk_format": "raw"})
    assert parts(wire.asked[1].body, wire.asked[1].headers["Content-Type"])[1] == QCOW2


def test_an_image_that_another_call_has_uploaded_meanwhile_is_used(cpi, wire, replies, tarball):
    wire.script(*uploading(replies, replies.failed("Image with same fingerprint already exists")))
    wire.script(("GET /1.0/images/" + fingerprint_of(cpi, tarball), replies.sync(VM_IMAGE)), (ALIASES, replies.sync()))
    stemcells.create_stemcell(cpi(), tarball(), PROPERTIES)


def fingerprint_of(cpi, tarball) -> str:
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
def test_an_upload_whose_end_is_lost_is_looked_at(cpi, wire, replies, tarball, loss):
    steps = uploading(replies, replies.error("Operation not found", 404))
    wire.script(*(steps if loss == "operation" else [steps[0], (steps[1][0], errors.NoResponse("reset"))]))
    wire.script(("GET /1.0/images/" + fingerprint_of(cpi, tarball), replies.sync(VM_IMAGE)), (ALIASES, replies.sync()))
    stemcells.create_stemcell(cpi(), tarball(), PROPERTIES)


def test_an_upload_that_is_lost_altogether_is_an_error(cpi, wire, replies, tarball):
    steps = uploading(replies)
    wire.script(
        steps[0],
        (steps[1][0], errors.NoResponse("reset")),
        ("GET /1.0/images/" + fingerprint_of(cpi, tarball), replies.error("Image not found", 404)),
    )
    with pytest.raises(errors.NoResponse):
        stemcells.create_stemcell(cpi(), tarball(), PROPERTIES)


def test_an_alias_that_fails_is_taken_back(cpi, wire, replies, clock):
    cid = f"img-{naming.new_id(type(clock)(), 'd1r')}"
    wire.script(
        (IMAGES, replies.sync([VM_IMAGE])),
        (ALIASES, replies.error("odd")),
        (f"DELETE /1.0/images/aliases/{cid}", replies.error("no", 404)),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        stemcells.create_stemcell(cpi(), "x", PROPERTIES)


@pytest.mark.parametrize(
    "properties, question",
    [
        ({"image_fingerprint": "f1ng"}, []),
        ({"image_alias": "mine"}, [("GET /1.0/images/aliases/mine", {"target": "f1ng"})]),
    ],
)
def test_a_light_stemcell_is_an_alias_for_the_operators_image(cpi, wire, replies, properties, question):
    wire.script(
        *[(line, replies.sync(answer)) for line, answer in question],
        ("GET /1.0/images/f1ng", replies.sync(VM_IMAGE)),
        (ALIASES, replies.sync()),
    )
    stemcells.create_stemcell(cpi(), "", {**PROPERTIES, **properties})
    assert (wire.asked[-1].body["target"], wire.asked[-1].body["description"]) == ("f1ng3r", "light: bosh-noble 1.2")


def test_a_light_stemcell_without_its_image_says_what_to_do(cpi, wire, replies):
    wire.script(("GET /1.0/images/aliases/mine", replies.error("Image alias not found", 404)))
    with pytest.raises(errors.CloudError, match="the light stemcell's image mine is not on the server") as raised:
        stemcells.create_stemcell(cpi(), "", {"image_alias": "mine"})
    assert "Import it into project prod" in raised.value.hint


def test_a_container_image_is_no_light_stemcell(cpi, wire, replies):
    wire.script(("GET /1.0/images/f1ng", replies.sync({**VM_IMAGE, "type": "container"})))
    with pytest.raises(errors.CloudError, match="image f1ng3r is for containers"):
        stemcells.create_stemcell(cpi(), "", {"image_fingerprint": "f1ng"})


# -- delete --------------------------------------------------------------------------------------------------------------


def deleting(replies, *names, description="bosh-noble 1.2"):
    return [
        (
            "GET /1.0/images/aliases/img-1",
            replies.sync({"name": "img-1", "target": "f1ng3r", "description": description}),
        ),
        ("GET /1.0/images/f1ng3r", replies.sync({**VM_IMAGE, "aliases": [{"name": name} for name in names]})),
    ]


def test_the_last_alias_takes_the_image_with_it(cpi, wire, replies):
    wire.script(
        *deleting(replies, "img-1"), ("DELETE /1.0/images/f1ng3r", replies.asynchronous()), (WAIT, replies.done())
    )
    stemcells.delete_stemcell(cpi(), "img-1")


@pytest.mark.parametrize(
    "names, description", [(["img-1", "img-2"], "bosh-noble 1.2"), (["img-1"], "light: bosh-noble 1.2")]
)
def test_an_image_that_others_use_or_own_stays(cpi, wire, replies, names, description):
    wire.script(
        *deleting(replies, *names, description=description), ("DELETE /1.0/images/aliases/img-1", replies.sync())
    )
    stemcells.delete_stemcell(cpi(), "img-1")


@pytest.mark.parametrize("step", range(3))
def test_a_stemcell_that_is_gone_is_deleted(cpi, wire, replies, step):
    steps = [*deleting(replies, "img-1"), ("DELETE /1.0/images/f1ng3r", None)][: step + 1]
    wire.script(*steps[:-1], (steps[-1][0], replies.error("Image not found", 404)))
    stemcells.delete_stemcell(cpi(), "img-1")


# -- predeploy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_predeploying_leaves_no_vm_behind(cpi, wire, replies, clock, outcome):
    one = type(clock)()
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
            stemcells.create_stemcell(cpi(predeploy_stemcell=True), "x", PROPERTIES)
    else:
        assert stemcells.create_stemcell(cpi(predeploy_stemcell=True), "x", PROPERTIES) == cid
    assert wire.asked[2].body["source"] == {"type": "image", "fingerprint": "f1ng3r"}


@pytest.mark.parametrize("clustered, target", [(False, None), (True, "m1")])
def test_predeploying_goes_to_the_target_where_there_is_a_cluster(cpi, wire, replies, clock, clustered, target):
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
    stemcells.create_stemcell(cpi(predeploy_stemcell=True, target="m1"), "x", PROPERTIES)
    assert wire.asked[3].query.get("target") == target
