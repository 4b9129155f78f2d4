"""Stemcells: a tarball becomes an image, and an alias of the image is the stemcell CID."""

from __future__ import annotations

import contextlib
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context, is_foreign, parse_cid
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.guest.cloud_properties import StemcellProperties, parse_stemcell_properties
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.stemcell import rootfs
from bosh_lxd_cpi.stemcell.upload import Upload, metadata

LIGHT = "light: "
"""Prefix of the description of an alias for a light stemcell, whose image belongs to the operator."""


def create_stemcell(context: Context, image_path: str, cloud_properties: Any, tags: Any = None) -> str:
    """Import a stemcell and return its CID, a new alias of its image. Equal stemcells share one image.

    Requests: list of images, upload, wait, alias; without upload and wait if the image exists.
    """
    if not isinstance(image_path, str) or not image_path.isprintable():
        raise errors.BadRequest("image_path must be the path of a file")
    stemcell = parse_stemcell_properties(cloud_properties)
    is_light = bool(stemcell.image_alias or stemcell.image_fingerprint)
    if is_light:
        fingerprint = _light_image(context, stemcell)
    else:
        fingerprint = _existing_image(context, stemcell) or _upload(context, image_path, stemcell)
    cid = naming.stemcell_cid(context.new_id())
    with context.rollback() as rollback:
        rollback.add(f"image alias {cid}", lambda context: context.client.delete_alias(cid))
        description = f"{LIGHT if is_light else ''}{stemcell.name} {stemcell.version}"
        context.run_operation(
            lambda: context.client.create_alias(cid, fingerprint, description=description),
            what=f"creating image alias {cid}",
            is_done=lambda: exists(lambda: context.client.alias(cid)),
        )
        if context.config.server.predeploy_stemcell and not is_light:
            _predeploy(context, fingerprint)
    return cid


def delete_stemcell(context: Context, stemcell_cid: str) -> None:
    """Delete the alias, and the image with its last alias. Succeed if there is none."""
    if is_foreign(stemcell_cid):
        context.log.info(f"there is no stemcell {stemcell_cid}")
        return
    cid = parse_cid(stemcell_cid, "stemcell_cid")
    try:
        alias = context.client.alias(cid)
        image = context.client.image(alias.target)
    except errors.NotFound:
        return
    is_last = set(image.alias_names) <= {cid}
    try:
        if is_last and not alias.description.startswith(LIGHT):
            context.run_operation(
                lambda: context.client.delete_image(alias.target),
                what=f"deleting stemcell {cid}",
                name=alias.target,
                is_done=lambda: not exists(lambda: context.client.image(alias.target)),
            )
        else:
            context.client.delete_alias(cid)
    except errors.NotFound:
        context.log.info(f"there is no stemcell {cid}")


def _light_image(context: Context, stemcell: StemcellProperties) -> str:
    """Return the fingerprint of the image that a light stemcell names. Raises CloudError."""
    name = stemcell.image_alias or stemcell.image_fingerprint
    try:
        fingerprint = stemcell.image_fingerprint or context.client.alias(stemcell.image_alias).target
        image = context.client.image(fingerprint)
    except errors.NotFound:
        raise errors.CloudError(
            f"the light stemcell's image {name} is not on the server", code="no_light_image"
        ) from None
    if image.type != "virtual-machine":
        raise errors.CloudError(
            f"image {image.fingerprint[:12]} is for containers, not for virtual machines", code="container_image"
        )
    return image.fingerprint


def _existing_image(context: Context, stemcell: StemcellProperties) -> str:
    """Return the fingerprint of an image with the same name and version, or an empty string.

    This CPI and the Go CPI write both to the image's property `description`.
    """
    if not (stemcell.name and stemcell.version):
        return ""
    for image in context.client.images():
        if image.properties.get("description") == _description(stemcell) and image.type == "virtual-machine":
            context.log.info(f"the server already has stemcell {_description(stemcell)}")
            return image.fingerprint
    return ""


def _description(stemcell: StemcellProperties) -> str:
    return f"{stemcell.name}-{stemcell.version}"


def _upload(context: Context, path: str, stemcell: StemcellProperties) -> str:
    """Upload the image and return its fingerprint. The header of the image is checked before the first request."""
    with rootfs.open_rootfs(
        path,
        disk_mib=stemcell.disk,
        is_raw=stemcell.disk_format == "raw",
        deadline=context.client.deadline,
        log=context.log.info,
    ) as image:
        return _send(context, stemcell, image)


def _send(context: Context, stemcell: StemcellProperties, image: rootfs.Rootfs) -> str:
    properties = {
        "description": _description(stemcell),
        "os": (stemcell.os_distro or "linux").title(),
        "architecture": stemcell.architecture,
        "root_device_name": stemcell.root_device_name or "/",
        labels.IMAGE_STEMCELL: f"{stemcell.name} {stemcell.version}",
        labels.IMAGE_DIRECTOR: context.director,
        **({"root_disk_size": f"{stemcell.disk}MiB"} if stemcell.disk else {}),
    }
    upload = Upload(
        metadata(architecture=stemcell.architecture, created=image.created, properties=properties),
        image.chunks,
        image.size,
        boundary=context.new_id(),
        progress=lambda percent: context.log.info(f"uploading the stemcell: {percent} %"),
    )
    context.log.info(f"uploading the stemcell: {image.size >> 20} MiB")
    try:
        response = context.client.upload_image(upload, length=upload.length, content_type=upload.content_type)
        operations.wait(context.client, response, what=f"importing stemcell {_description(stemcell)}")
    except (errors.AlreadyExists, errors.NoResponse, errors.OperationNotFound) as failure:
        # Another call uploaded the same image, or the server has it although its response was lost.
        if not upload.finished or not exists(lambda: context.client.image(upload.fingerprint)):
            raise
        context.log.info(f"the server has the image: {failure}")
    return upload.fingerprint


def _predeploy(context: Context, fingerprint: str) -> None:
    """Create and delete a VM, so that the pool has its copy of the image before several VMs need one at once.

    Some remote pools in clusters fail then (docs/development/lxd-api.md §11, lxd #15315).
    """
    name, server = naming.vm_cid(context.new_id()), context.config.server
    target = server.target if server.target and context.features().is_clustered else ""
    body = {
        "name": name,
        "type": "virtual-machine",
        "source": {"type": "image", "fingerprint": fingerprint},
        "profiles": [server.profile_name],
        "devices": {naming.ROOT_DEVICE: disks.root_device(server.storage_pool_name, 0)},
        "config": {**context.owner_labels(), labels.STATE: labels.CREATING},
        "description": "BOSH warms up a stemcell",
    }
    try:
        context.run_operation(
            lambda: context.client.create_instance(body, target=target), what="predeploying the stemcell"
        )
    finally:
        with contextlib.suppress(errors.NotFound):
            context.run_operation(
                lambda: context.client.delete_instance(name), what="deleting the VM of the predeployed stemcell"
            )
