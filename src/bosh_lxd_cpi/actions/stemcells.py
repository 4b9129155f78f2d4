"""Stemcells: a tarball becomes an image, and an alias of the image is the stemcell CID."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Cpi, identifier
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.guest.cloud_properties import StemcellProperties, parse_stemcell_properties
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.stemcell import qcow2, tarball, upload

LIGHT = "light: "
"""Starts the description of an alias whose image is the operator's, not ours."""


def create_stemcell(cpi: Cpi, image_path: str, cloud_properties: Any, tags: Any = None) -> str:
    """Import a stemcell and answer a new alias for its image; equal stemcells share one image.

    Requests: list images, upload, wait, alias; without the middle two when the image is there already.
    """
    if not isinstance(image_path, str) or not image_path.isprintable():
        raise errors.BadRequest("image_path must be the path of a file")
    stemcell = parse_stemcell_properties(cloud_properties)
    light = bool(stemcell.image_alias or stemcell.image_fingerprint)
    if light:
        fingerprint = _light_image(cpi, stemcell)
    else:
        fingerprint = _existing_image(cpi, stemcell) or _upload(cpi, image_path, stemcell)
    cid = f"img-{cpi.new_id()}"
    with cpi.rollback() as rollback:
        rollback.add(f"image alias {cid}", lambda: cpi.client.delete_alias(cid))
        description = f"{LIGHT if light else ''}{stemcell.name} {stemcell.version}"
        cpi.run_operation(
            lambda: cpi.client.create_alias(cid, fingerprint, description),
            what=f"image alias {cid}",
            is_done=lambda: exists(lambda: cpi.client.alias(cid)),
        )
        if cpi.config.server.predeploy_stemcell and not light:
            _predeploy(cpi, fingerprint)
    return cid


def delete_stemcell(cpi: Cpi, stemcell_cid: str) -> None:
    """Remove the alias, and with the last one the image. One that is gone is no error."""
    cid = identifier(stemcell_cid, "stemcell_cid")
    try:
        alias = cpi.client.alias(cid).metadata
        image = cpi.client.image(alias["target"]).metadata
    except errors.NotFound:
        return
    last = {entry["name"] for entry in image["aliases"]} <= {cid}
    try:
        if last and not alias.get("description", "").startswith(LIGHT):
            cpi.run_operation(
                lambda: cpi.client.delete_image(alias["target"]),
                what=f"deleting stemcell {cid}",
                name=alias["target"],
                is_done=lambda: not exists(lambda: cpi.client.image(alias["target"])),
            )
        else:
            cpi.client.delete_alias(cid)
    except errors.NotFound:
        cpi.log.info(f"stemcell {cid} is gone already")


def _light_image(cpi: Cpi, stemcell: StemcellProperties) -> str:
    """The fingerprint of an image that the operator put on the server."""
    try:
        wanted = stemcell.image_fingerprint or cpi.client.alias(stemcell.image_alias).metadata["target"]
        image = cpi.client.image(wanted).metadata
    except errors.NotFound:
        name = stemcell.image_alias or stemcell.image_fingerprint
        raise errors.CloudError(
            f"the light stemcell's image {name} is not on the server",
            hint=f"Import it into project {cpi.client.project}, or correct image_alias",
        ) from None
    _check_is_vm_image(image)
    return image["fingerprint"]


def _check_is_vm_image(image: dict[str, Any]) -> None:
    if image.get("type") != "virtual-machine":
        raise errors.CloudError(
            f"image {image['fingerprint'][:12]} is for containers, not for virtual machines",
            hint="Import it with a disk image (rootfs.img, qcow2)",
        )


def _existing_image(cpi: Cpi, stemcell: StemcellProperties) -> str:
    """The image of an equal stemcell, ours or go-lxd-cpi's, which both say so in the property `description`."""
    if not (stemcell.name and stemcell.version):
        return ""
    for image in cpi.client.images().metadata:
        same = (image.get("properties") or {}).get("description") == _description(stemcell)
        if same and image.get("type") == "virtual-machine":
            cpi.log.info(f"stemcell {_description(stemcell)} is on the server already")
            return image["fingerprint"]
    return ""


def _description(stemcell: StemcellProperties) -> str:
    return f"{stemcell.name}-{stemcell.version}"


def _upload(cpi: Cpi, path: str, stemcell: StemcellProperties) -> str:
    """Stream the image up; answers its fingerprint. Nothing is sent before the first bytes have been checked."""
    with tarball.open_image(path) as image:
        chunks = image.chunks()
        first = next(chunks, b"")
        if stemcell.disk_format == "raw" and first[:4] != qcow2.MAGIC:
            return _upload_raw(cpi, path, stemcell)
        qcow2.check(first)
        return _send(cpi, stemcell, image, _chain(first, chunks), image.size)


def _upload_raw(cpi: Cpi, path: str, stemcell: StemcellProperties) -> str:
    with tarball.open_image(path) as image:
        cpi.log.info("the stemcell is raw: reading it once to see which parts of it are empty")
        used = qcow2.used_clusters(image.chunks())
    with tarball.open_image(path) as image:
        return _send(cpi, stemcell, image, qcow2.stream(image.chunks(), used, image.size), qcow2.size(used, image.size))


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _send(cpi: Cpi, stemcell: StemcellProperties, image: tarball.DiskImage, rootfs: Iterator[bytes], size: int) -> str:
    about = {
        "description": _description(stemcell),
        "os": (stemcell.os_distro or "linux").title(),
        "architecture": stemcell.architecture,
        "root_device_name": stemcell.root_device_name or "/",
        "bosh.stemcell": f"{stemcell.name} {stemcell.version}",
        "bosh.director": cpi.director,
        **({"root_disk_size": f"{stemcell.disk}MiB"} if stemcell.disk else {}),
    }
    body = upload.Upload(
        upload.metadata(architecture=stemcell.architecture, created=image.created, properties=about),
        rootfs,
        size,
        boundary=cpi.new_id(),
        progress=lambda percent: cpi.log.info(f"uploading the stemcell: {percent} %"),
    )
    cpi.log.info(f"uploading the stemcell: {size >> 20} MiB")
    try:
        reply = cpi.client.upload_image(body, length=body.length, content_type=body.content_type)
        operations.wait(cpi.client, reply, what=f"importing stemcell {_description(stemcell)}")
    except (errors.AlreadyExists, errors.NoResponse, errors.OperationNotFound) as failure:
        # Another call was faster, or the server has it although we did not hear so.
        if not body.finished or not exists(lambda: cpi.client.image(body.fingerprint)):
            raise
        cpi.log.info(f"the image is on the server all the same: {failure}")
    return body.fingerprint


def _predeploy(cpi: Cpi, fingerprint: str) -> None:
    """Make and remove a VM, so that the pool has its copy of the image before several VMs at once want one.

    Some remote pools in clusters fail when they do (facts: lxd-api 11, lxd #15315).
    """
    name = f"vm-{cpi.new_id()}"
    server = cpi.config.server
    target = server.target if server.target and cpi.features().clustered else ""
    body = {
        "name": name,
        "type": "virtual-machine",
        "source": {"type": "image", "fingerprint": fingerprint},
        "profiles": [server.profile_name],
        "devices": {"root": disks.root_device(server.storage_pool_name, 0)},
        "config": {**cpi.marks(), "user.bosh.state": "creating"},
        "description": "BOSH warms up a stemcell",
    }
    try:
        cpi.run_operation(lambda: cpi.client.create_instance(body, target=target), what="predeploying the stemcell")
    finally:
        with contextlib.suppress(errors.NotFound):
            cpi.run_operation(lambda: cpi.client.delete_instance(name), what="deleting the predeployed VM")
