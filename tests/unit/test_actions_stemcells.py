"""Stemcells: the content of uploads, and responses that no test server gives on demand."""

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
from bosh_lxd_cpi.runtime import locks
from bosh_lxd_cpi.stemcell.upload import metadata
from tests.support.tarballs import image_header

WAIT = "GET /1.0/operations/op-1/wait"
IMAGES, UPLOAD, ALIASES = "GET /1.0/images", "POST /1.0/images", "POST /1.0/images/aliases"
QCOW2 = image_header() + b"x" * 3000
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
    """Return a function that writes a tarball with a disk image and returns its path."""

    def tarball(content: bytes = QCOW2) -> str:
        info = tarfile.TarInfo("root.img")
        info.size, info.mtime = len(content), 1769853600
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.addfile(info, io.BytesIO(content))
        (tmp_path / "image").write_bytes(gzip.compress(packed.getvalue(), mtime=0))
        return str(tmp_path / "image")

    return tarball


SPACE = "GET /1.0/storage-pools/default/resources"
FULL = {"space": {"used": 900 << 20, "total": 1000 << 20}}


def server(responses, *, clustered: bool):
    return responses.sync({"auth": "trusted", "environment": {"server": "incus", "server_clustered": clustered}})


def test_refuses_an_image_that_is_larger_than_the_pools_space(context, wire, responses):
    wire.script((SPACE, responses.sync(FULL)), ("GET /1.0", server(responses, clustered=False)))
    with pytest.raises(errors.NoDiskSpace, match="has 101 MiB, and storage pool default has 100 MiB free") as refused:
        stemcells.check_space(context(), 101 << 20)
    assert (refused.value.code, refused.value.fields) == ("no_space", {"pool": "default"})


@pytest.mark.parametrize(
    "document",
    [{"space": {"used": 899 << 20, "total": 1000 << 20}}, {"space": {"used": 0, "total": 0}}, {}],
    ids=["enough", "unknown", "missing"],
)
def test_accepts_an_image_that_may_fit(context, wire, responses, document):
    wire.script((SPACE, responses.sync(document)))
    stemcells.check_space(context(), 101 << 20)


@pytest.mark.parametrize("status, text", [(403, "not authorized"), (404, "Storage pool not found")])
def test_accepts_an_image_if_the_space_cannot_be_read(context, wire, responses, status, text):
    wire.script((SPACE, responses.error(text, status)))
    stemcells.check_space(context(), 101 << 20)


def test_accepts_every_image_on_a_cluster(context, wire, responses):
    wire.script((SPACE, responses.sync(FULL)), ("GET /1.0", server(responses, clustered=True)))
    stemcells.check_space(context(), 101 << 20)


def upload_requests(responses, outcome):
    """The requests until the image exists, which does not exist before."""
    return [(IMAGES, responses.sync([])), (UPLOAD, responses.asynchronous()), (WAIT, outcome)]


@pytest.fixture
def imported(wire, responses):
    """The response to the wait for the import."""

    def respond():
        return responses.done(fingerprint=hashlib.sha256(b"".join(parts(wire.last_request_to(UPLOAD)))).hexdigest())

    return respond


@pytest.fixture
def named(wire, responses):
    """The response to the creation of an alias. It lets the script continue with reading the image."""

    def respond():
        target = wire.last_request_to(ALIASES).body["target"]
        wire.remaining.insert(0, (f"GET /1.0/images/{target}", responses.sync({**VM_IMAGE, "fingerprint": target})))
        return responses.sync()

    return respond


def parts(upload) -> list[bytes]:
    """Return the parts of a multipart request: metadata and disk image."""
    boundary = upload.headers["Content-Type"].partition("boundary=")[2].encode()
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in upload.body.split(b"--" + boundary)[1:-1]]


def test_create_stemcell_uploads_the_image_and_creates_an_alias(context, wire, responses, tarball, named, imported):
    wire.script(*upload_requests(responses, imported), (ALIASES, named))
    cid = stemcells.create_stemcell(context(), tarball(), PROPERTIES)
    upload, alias = wire.request_to(UPLOAD), wire.request_to(ALIASES)
    head, rootfs = parts(upload)
    assert rootfs == QCOW2 and upload.headers["Content-Length"] == str(len(upload.body))
    assert alias.body == {
        "name": cid,
        "target": hashlib.sha256(head + QCOW2).hexdigest(),
        "description": "bosh-noble 1.2",
    }
    assert cid.startswith("img-") and naming.origin(cid)


def test_create_stemcell_uses_an_existing_image(context, wire, responses, tarball, named):
    others = [
        {**VM_IMAGE, "properties": {"description": "bosh-noble-1.3"}},
        {**VM_IMAGE, "type": "container"},
        {**VM_IMAGE, "properties": None},
    ]
    wire.script((IMAGES, responses.sync([*others, VM_IMAGE])), (ALIASES, named))
    stemcells.create_stemcell(context(), tarball(), PROPERTIES)
    assert wire.request_to(ALIASES).body["target"] == "f1ng3r"
    assert wire.request_to(IMAGES).query["filter"] == "properties.description eq bosh-noble-1.2"


OWN, OTHERS = naming.director_digest("d1r"), naming.director_digest("another-director")


def image_of(*aliases: tuple[str, str], fingerprint: str = "f1ng3r", **properties: str):
    """Return the stemcell's image with aliases, which are pairs of name and description."""
    return {
        **VM_IMAGE,
        "fingerprint": fingerprint,
        "properties": {**VM_IMAGE["properties"], **properties},
        "aliases": [{"name": name, "description": description} for name, description in aliases],
    }


def alias_created(hour: int, director: str = OWN) -> str:
    return f"img-01a2030b-{hour:04x}-881f-9150-{director}"


def test_returns_the_newest_cid_of_this_director(context, wire, responses, tarball):
    wire.script((IMAGES, responses.sync([image_of(*[(alias_created(n), "bosh-noble 1.2") for n in (2, 3, 1)])])))
    assert stemcells.create_stemcell(context(), tarball(), PROPERTIES) == alias_created(3)


@pytest.mark.parametrize(
    "alias",
    [
        (alias_created(1, OTHERS), "bosh-noble 1.2"),
        (alias_created(1), "light: bosh-noble 1.2"),
        ("img-3f2b1c00-0000-4000-5000-000000000004", "bosh-noble-1.2"),
    ],
    ids=["another director", "light stemcell", "Go CPI"],
)
def test_creates_a_cid_beside_those_of_others(context, wire, responses, tarball, named, alias):
    wire.script((IMAGES, responses.sync([image_of(alias)])), (ALIASES, named))
    assert stemcells.create_stemcell(context(), tarball(), PROPERTIES) != alias[0]
    assert wire.request_to(ALIASES).body["target"] == "f1ng3r"


def test_callers_without_uuid_do_not_share_a_cid(context, wire, responses, tarball, named):
    alias = alias_created(1, naming.director_digest(""))
    wire.script((IMAGES, responses.sync([image_of((alias, "bosh-noble 1.2"))])), (ALIASES, named))
    anonymous = context()
    anonymous.director = ""
    assert stemcells.create_stemcell(anonymous, tarball(), PROPERTIES) != alias


def test_uploads_when_the_content_is_another_one(context, wire, responses, tarball, named, imported):
    damaged = image_of((alias_created(1), "bosh-noble 1.2"), **{"bosh.stemcell": "bosh-noble 1.2"})
    wire.script((IMAGES, responses.sync([damaged])), (UPLOAD, responses.asynchronous()), (WAIT, imported))
    wire.script((ALIASES, named))
    assert stemcells.create_stemcell(context(), tarball(), PROPERTIES) != alias_created(1)
    assert wire.request_to(ALIASES).body["target"] == fingerprint()


@pytest.mark.parametrize("director", ["d1r", "another-director"])
@pytest.mark.parametrize("order", [1, -1])
def test_prefers_an_image_with_the_same_content(context, wire, responses, tarball, named, order, director):
    listed = [
        image_of((alias_created(1), "bosh-noble 1.2"), fingerprint="of the Go CPI"),
        image_of(fingerprint=fingerprint(director), **properties(director)),
        image_of(fingerprint="0" * 64, **properties(director)),
    ]
    wire.script((IMAGES, responses.sync(listed[::order])), (ALIASES, named))
    stemcells.create_stemcell(context(), tarball(), PROPERTIES)
    assert wire.request_to(ALIASES).body["target"] == fingerprint(director)


def test_compares_the_content_of_a_raw_image(context, wire, responses, tarball, named, imported):
    path, raw = tarball(bytes(200_000) + b"data"), {**PROPERTIES, "disk_format": "raw"}
    wire.script(*upload_requests(responses, imported), (ALIASES, named))
    stemcells.create_stemcell(context(), path, raw)
    uploaded = wire.request_to(ALIASES).body["target"]
    wire.script((IMAGES, responses.sync([image_of(fingerprint=uploaded, **properties())])), (ALIASES, named))
    stemcells.create_stemcell(context(), path, raw)
    assert wire.last_request_to(ALIASES).body["target"] == uploaded


def test_imports_again_when_the_image_is_deleted(context, wire, responses, tarball, named, clock, imported):
    cid = naming.stemcell_cid(naming.new_id(type(clock)(), "d1r"))
    deletion = naming.deletion_alias(naming.new_id(type(clock)(), "another-director"))
    deleted = image_of((alias_created(1), "bosh-noble 1.2"), (deletion, ""))
    wire.script(
        (IMAGES, responses.sync([deleted])),
        (ALIASES, responses.sync()),
        ("GET /1.0/images/f1ng3r", responses.sync(deleted)),
        ("GET /1.0/images/f1ng3r", responses.error("Image not found", 404)),
        (f"DELETE /1.0/images/aliases/{cid}", responses.error("Image alias not found", 404)),
        *upload_requests(responses, imported),
        (ALIASES, named),
    )
    assert stemcells.create_stemcell(context(), tarball(), PROPERTIES) not in (cid, alias_created(1))


def test_imports_again_when_the_image_is_gone_before_its_alias(
    context, wire, responses, tarball, named, clock, imported
):
    cid = naming.stemcell_cid(naming.new_id(type(clock)(), "d1r"))
    gone = responses.error("Image not found", 404)
    wire.script(
        (IMAGES, responses.sync([VM_IMAGE])),
        (ALIASES, gone),
        (f"DELETE /1.0/images/aliases/{cid}", gone),
        *upload_requests(responses, imported),
        (ALIASES, named),
    )
    stemcells.create_stemcell(context(), tarball(), PROPERTIES)


def test_holds_the_lock_of_the_stemcell_during_the_upload(context, wire, responses, tarball, named, imported):
    call, held = context(), []

    def uploaded():
        held.append(locks.is_held(call.config.lock_directory(), naming.stemcell_lock("bosh-noble 1.2")))
        return responses.asynchronous()

    wire.script((IMAGES, responses.sync([])), (UPLOAD, uploaded), (WAIT, imported), (ALIASES, named))
    stemcells.create_stemcell(call, tarball(), PROPERTIES)
    assert held == [True]


def test_delete_stemcell_holds_the_lock_of_the_stemcell(context, wire, responses):
    call, held = context(), []

    def announced():
        held.append(locks.is_held(call.config.lock_directory(), naming.stemcell_lock("bosh-noble 1.2")))
        return responses.sync()

    wire.script(
        (READ_ALIAS, alias_of(responses, "bosh-noble-1.2")),
        (ALIASES, announced),
        (READ_IMAGE, image_with(responses, "img-1")),
        ("DELETE /1.0/images/f1ng3r", responses.sync()),
    )
    stemcells.delete_stemcell(call, "img-1")
    assert held == [True]


def test_create_stemcell_uploads_without_name_and_version(context, wire, responses, tarball, named, imported):
    wire.script(*upload_requests(responses, imported)[1:], (ALIASES, named))
    stemcells.create_stemcell(context(), tarball(), {"name": "bosh-noble"})


@pytest.mark.parametrize(
    "content, properties, message",
    [
        (b"\0" * 2000, PROPERTIES, "root.img is not qcow2"),
        (b"KDMV" + bytes(100), PROPERTIES, "root.img is not qcow2"),
        (image_header(backing_file=1), PROPERTIES, "needs a backing file"),
    ],
    ids=["raw declared as qcow2", "vmdk", "backing file"],
)
def test_rejects_invalid_image_before_upload(context, wire, responses, tarball, content, properties, message):
    wire.script((IMAGES, responses.sync([])))
    with pytest.raises(errors.CloudError, match=message):
        stemcells.create_stemcell(context(), tarball(content), properties)


@pytest.mark.parametrize("path", [None, 5, ["x"], {}])
def test_create_stemcell_rejects_invalid_path(context, path):
    with pytest.raises(errors.BadRequest, match="image_path must be the path of a file"):
        stemcells.create_stemcell(context(), path, PROPERTIES)


def test_uploads_a_raw_image_as_qcow2(context, wire, responses, tarball, named, imported):
    wire.script(*upload_requests(responses, imported), (ALIASES, named))
    stemcells.create_stemcell(
        context(), tarball(bytes(200_000) + b"data" + bytes(100_000)), {**PROPERTIES, "disk_format": "raw"}
    )
    upload = wire.request_to(UPLOAD)
    _, rootfs = parts(upload)
    assert rootfs.startswith(b"QFI\xfb") and len(rootfs) == 6 * 65536
    assert upload.headers["Content-Length"] == str(len(upload.body))


def test_uploads_a_qcow2_image_declared_as_raw_unchanged(context, wire, responses, tarball, named, imported):
    wire.script(*upload_requests(responses, imported), (ALIASES, named))
    stemcells.create_stemcell(context(), tarball(), {**PROPERTIES, "disk_format": "raw"})
    assert parts(wire.request_to(UPLOAD))[1] == QCOW2


@pytest.mark.parametrize(
    "text",
    [
        "Image with same fingerprint already exists",
        'Failed syncing image between servers: Failed to copy image to "m2": Post "m2": Unable to connect to: m2',
    ],
)
def test_uses_the_image_that_the_server_has_after_an_error(context, wire, responses, tarball, text, named):
    wire.script(*upload_requests(responses, responses.failed(text)))
    if "Unable to connect" in text:
        wire.script(("GET /1.0/cluster/members", responses.sync([{"server_name": "m2", "status": "Online"}])))
    image = f"/1.0/images/{fingerprint()}"
    wire.script((f"GET {image}", responses.sync(VM_IMAGE)), (ALIASES, named))
    stemcells.create_stemcell(context(), tarball(), PROPERTIES)


def properties(director: str = "d1r") -> dict[str, str]:
    """Return the properties of the image that the tarball becomes."""
    return {
        "description": "bosh-noble-1.2",
        "os": "Ubuntu",
        "architecture": "x86_64",
        "root_device_name": "/",
        "bosh.stemcell": "bosh-noble 1.2",
        "bosh.director": director,
        "root_disk_size": "5120MiB",
    }


def fingerprint(director: str = "d1r") -> str:
    """Return the fingerprint of the image that the tarball becomes."""
    head = metadata(architecture="x86_64", created=1769853600, properties=properties(director))
    return hashlib.sha256(head + QCOW2).hexdigest()


@pytest.mark.parametrize("lost", ["response", "operation"])
def test_looks_for_the_image_when_the_result_is_lost(context, wire, responses, tarball, lost, named):
    steps = upload_requests(responses, responses.error("Operation not found", 404))
    wire.script(*(steps if lost == "operation" else [steps[0], (UPLOAD, errors.NoResponse("reset"))]))
    image = f"/1.0/images/{fingerprint()}"
    wire.script((f"GET {image}", responses.sync(VM_IMAGE)), (ALIASES, named))
    stemcells.create_stemcell(context(), tarball(), PROPERTIES)


def test_raises_no_response_when_the_image_is_missing(context, wire, responses, tarball):
    wire.script(
        (IMAGES, responses.sync([])),
        (UPLOAD, errors.NoResponse("reset")),
        (f"GET /1.0/images/{fingerprint()}", responses.error("Image not found", 404)),
    )
    with pytest.raises(errors.NoResponse):
        stemcells.create_stemcell(context(), tarball(), PROPERTIES)


def test_create_stemcell_rolls_back_the_alias(context, wire, responses, clock, tarball):
    cid = f"img-{naming.new_id(type(clock)(), 'd1r')}"
    wire.script(
        (IMAGES, responses.sync([VM_IMAGE])),
        (ALIASES, responses.error("odd")),
        (f"DELETE /1.0/images/aliases/{cid}", responses.error("no", 404)),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        stemcells.create_stemcell(context(), tarball(), PROPERTIES)


@pytest.mark.parametrize(
    "properties, look_up",
    [
        ({"image_fingerprint": "f1ng"}, []),
        ({"image_alias": "mine"}, [("GET /1.0/images/aliases/mine", {"target": "f1ng"})]),
    ],
    ids=["fingerprint", "alias"],
)
def test_light_stemcell_is_an_alias_of_an_existing_image(context, wire, responses, properties, look_up, named):
    wire.script(
        *[(line, responses.sync(document)) for line, document in look_up],
        ("GET /1.0/images/f1ng", responses.sync(VM_IMAGE)),
        (ALIASES, named),
    )
    stemcells.create_stemcell(context(), "", {**PROPERTIES, **properties})
    alias = wire.request_to(ALIASES).body
    assert (alias["target"], alias["description"]) == ("f1ng3r", "light: bosh-noble 1.2")


def test_rejects_light_stemcell_without_image(context, wire, responses):
    wire.script(("GET /1.0/images/aliases/mine", responses.error("Image alias not found", 404)))
    with pytest.raises(errors.CloudError, match="the light stemcell's image mine is not on the server") as raised:
        stemcells.create_stemcell(context(), "", {"image_alias": "mine"})
    assert raised.value.code == "no_light_image"


def test_rejects_container_image_as_light_stemcell(context, wire, responses):
    wire.script(("GET /1.0/images/f1ng", responses.sync({**VM_IMAGE, "type": "container"})))
    with pytest.raises(errors.CloudError, match="image f1ng3r is for containers") as raised:
        stemcells.create_stemcell(context(), "", {"image_fingerprint": "f1ng"})
    assert raised.value.code == "container_image"


# -- delete -----------------------------------------------------------------------------------------------------------


READ_ALIAS, READ_IMAGE = "GET /1.0/images/aliases/img-1", "GET /1.0/images/f1ng3r"


@pytest.fixture
def announcement(clock) -> str:
    """The alias with which a call announces the deletion of an image."""
    return naming.deletion_alias(naming.new_id(type(clock)(), "d1r"))


def alias_of(responses, description="bosh-noble 1.2"):
    return responses.sync({"name": "img-1", "target": "f1ng3r", "description": description})


def image_with(responses, *names):
    return responses.sync({**VM_IMAGE, "aliases": [{"name": name} for name in names]})


def test_delete_stemcell_deletes_the_image_with_its_last_alias(context, wire, responses, announcement):
    other_deletion = naming.deletion_alias("01a2030b-da83-881f-9150-c4285a92c4e3")
    wire.script(
        (READ_ALIAS, alias_of(responses)),
        (ALIASES, responses.sync()),
        (READ_IMAGE, image_with(responses, "img-1", announcement, other_deletion)),
        ("DELETE /1.0/images/f1ng3r", responses.asynchronous()),
        (WAIT, responses.done()),
    )
    stemcells.delete_stemcell(context(), "img-1")
    alias = wire.request_to(ALIASES).body
    assert (alias["name"], alias["target"]) == (announcement, "f1ng3r")


def test_delete_stemcell_keeps_an_image_with_another_alias(context, wire, responses, announcement):
    wire.script(
        (READ_ALIAS, alias_of(responses)),
        (ALIASES, responses.sync()),
        (READ_IMAGE, image_with(responses, "img-1", announcement, "img-2")),
        (f"DELETE /1.0/images/aliases/{announcement}", responses.sync()),
        ("DELETE /1.0/images/aliases/img-1", responses.sync()),
    )
    stemcells.delete_stemcell(context(), "img-1")


def test_delete_stemcell_withdraws_a_refused_deletion(context, wire, responses, announcement):
    wire.script(
        (READ_ALIAS, alias_of(responses)),
        (ALIASES, responses.sync()),
        (READ_IMAGE, image_with(responses, "img-1", announcement)),
        ("DELETE /1.0/images/f1ng3r", responses.asynchronous()),
        (WAIT, responses.failed("peer node 10.0.0.2:8443 is down")),
        ("GET /1.0/cluster/members", responses.sync([{"server_name": "node2", "status": "Offline"}])),
        (f"DELETE /1.0/images/aliases/{announcement}", responses.sync()),
    )
    with pytest.raises(errors.MemberUnavailable, match="is down; not online: node2"):
        stemcells.delete_stemcell(context(), "img-1")


def test_stemcells_of_other_clouds_do_not_exist(context, wire):
    stemcells.delete_stemcell(context(), "ami-1 light")
    assert wire.lines == []


def test_delete_stemcell_keeps_the_image_of_a_light_stemcell(context, wire, responses):
    wire.script(
        (READ_ALIAS, alias_of(responses, "light: bosh-noble 1.2")),
        ("DELETE /1.0/images/aliases/img-1", responses.sync()),
    )
    stemcells.delete_stemcell(context(), "img-1")


@pytest.mark.parametrize("missing", range(4), ids=["alias", "announced image", "image", "image at its deletion"])
def test_delete_stemcell_succeeds_when_it_is_missing(context, wire, responses, announcement, missing):
    steps = [
        (READ_ALIAS, alias_of(responses)),
        (ALIASES, responses.sync()),
        (READ_IMAGE, image_with(responses, "img-1", announcement)),
        ("DELETE /1.0/images/f1ng3r", None),
    ][: missing + 1]
    gone = responses.error("Image not found", 404)
    wire.script(*steps[:-1], (steps[-1][0], gone))
    if missing in (1, 2):
        wire.script((f"DELETE /1.0/images/aliases/{announcement}", gone))
    stemcells.delete_stemcell(context(), "img-1")


def test_withdraws_the_announcement_of_an_unreadable_image(context, wire, responses, announcement):
    wire.script(
        (READ_ALIAS, alias_of(responses)),
        (ALIASES, responses.sync()),
        (READ_IMAGE, responses.error("odd")),
        (f"DELETE /1.0/images/aliases/{announcement}", responses.sync()),
    )
    with pytest.raises(errors.ServerError, match="odd"):
        stemcells.delete_stemcell(context(), "img-1")


@pytest.mark.parametrize("failure", [errors.Interrupted("SIGTERM"), "odd"], ids=["interrupted", "refused"])
def test_keeps_the_announcement_when_the_image_may_be_deleted(context, wire, responses, announcement, failure):
    wire.script(
        (READ_ALIAS, alias_of(responses)),
        (ALIASES, responses.sync()),
        (READ_IMAGE, image_with(responses, "img-1", announcement)),
        ("DELETE /1.0/images/f1ng3r", responses.asynchronous()),
        (WAIT, failure if isinstance(failure, BaseException) else responses.failed(failure)),
    )
    with pytest.raises((errors.ServerError, errors.Interrupted)):
        stemcells.delete_stemcell(context(), "img-1")


# -- predeploy --------------------------------------------------------------------------------------------------------


@pytest.fixture
def new_cids(clock):
    """Return the CIDs of the stemcell and of the VM that the call creates."""
    same_clock = type(clock)()
    return [f"{kind}-{naming.new_id(same_clock, 'd1r')}" for kind in ("img", "vm")]


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_predeploying_deletes_its_vm(context, wire, responses, new_cids, outcome, named, tarball):
    cid, vm = new_cids
    wire.script(
        (IMAGES, responses.sync([VM_IMAGE])),
        (ALIASES, named),
        ("POST /1.0/instances", responses.asynchronous()),
        (WAIT, responses.done() if outcome == "done" else responses.failed("odd")),
        (f"DELETE /1.0/instances/{vm}", responses.error("no", 404)),
    )
    if outcome == "failed":
        wire.script((f"DELETE /1.0/images/aliases/{cid}", responses.sync()))
        with pytest.raises(errors.ServerError, match="odd"):
            stemcells.create_stemcell(context(predeploy_stemcell=True), tarball(), PROPERTIES)
    else:
        assert stemcells.create_stemcell(context(predeploy_stemcell=True), tarball(), PROPERTIES) == cid
    assert wire.request_to("POST /1.0/instances").body["source"] == {"type": "image", "fingerprint": "f1ng3r"}


@pytest.mark.parametrize("clustered, target", [(False, None), (True, "m1")], ids=["no cluster", "cluster"])
def test_predeploying_uses_the_target_on_a_cluster_only(
    context, wire, responses, new_cids, clustered, target, named, tarball
):
    _, vm = new_cids
    server = {
        "auth": "trusted",
        "api_extensions": [],
        "environment": {"server": "incus", "server_version": "6.0", "server_clustered": clustered},
    }
    wire.script(
        (IMAGES, responses.sync([VM_IMAGE])),
        (ALIASES, named),
        ("GET /1.0", responses.sync(server)),
        ("POST /1.0/instances", responses.sync()),
        (f"DELETE /1.0/instances/{vm}", responses.sync()),
    )
    stemcells.create_stemcell(context(predeploy_stemcell=True, target="m1"), tarball(), PROPERTIES)
    assert wire.request_to("POST /1.0/instances").query.get("target") == target


# -- unexpected responses ---------------------------------------------------------------------------------------------


def test_names_the_missing_field_of_an_image(context, wire, responses):
    image = {key: value for key, value in VM_IMAGE.items() if key != "fingerprint"}
    wire.script(("GET /1.0/images/f1ng", responses.sync(image)))
    with pytest.raises(
        errors.UnexpectedResponse,
        match=r"^GET /1.0/images/f1ng: the field fingerprint of the response is missing, not a string$",
    ):
        stemcells.create_stemcell(context(), "", {"image_fingerprint": "f1ng"})


def test_names_the_endpoint_when_a_list_is_an_object(context, wire, responses, tarball):
    wire.script((IMAGES, responses.sync({})))
    with pytest.raises(errors.UnexpectedResponse, match=r"^GET /1.0/images: the response is an object, not an array$"):
        stemcells.create_stemcell(context(), tarball(), PROPERTIES)
