"""Stemcells: a tarball becomes an image, and an alias of the image is the stemcell CID."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Any

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions import images
from bosh_lxd_cpi.actions.context import Context, is_foreign, parse_cid
from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.guest.cloud_properties import StemcellProperties, parse_stemcell_properties
from bosh_lxd_cpi.lxd import operations
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.lxd.resources import Image
from bosh_lxd_cpi.model import labels, naming
from bosh_lxd_cpi.runtime.retry import RetryPolicy
from bosh_lxd_cpi.stemcell import rootfs
from bosh_lxd_cpi.stemcell.upload import Upload, image_fingerprints, metadata

IMPORT_RETRY = RetryPolicy(total_seconds=math.inf, first_pause=0.5, max_attempts=5)
"""For an import whose image another machine deletes at the same time."""
CHECK_SPACE_FROM = 256 << 20
"""Bytes. A smaller image is uploaded without a look at the pool."""
LIGHT = "light: "
"""Prefix of the description of an alias for a light stemcell, whose image belongs to the operator."""


def create_stemcell(context: Context, image_path: str, cloud_properties: Any, tags: Any = None) -> str:
    """Import a stemcell and return its CID, an alias of its image. Stemcells with equal name, version and content share
    one image.

    A director gets the same CID for the same name, version and content: `bosh upload-stemcell --fix` overwrites the CID
    in its database, so the director would not delete the old one. Requests: images of this name and version, space of
    the pool if the image is large, upload, wait, alias, image; without upload and wait if the image exists; only the
    first if the CID exists.
    """
    if not isinstance(image_path, str) or not image_path.isprintable():
        raise errors.BadRequest("image_path must be the path of a file")
    stemcell = parse_stemcell_properties(cloud_properties)
    if stemcell.image_alias or stemcell.image_fingerprint:
        return _cid_of(context, _light_image(context, stemcell), f"{LIGHT}{_alias_description(stemcell)}")
    # The lock prevents that cleanup deletes the image before it has an alias, and that two calls upload one stemcell.
    with context.exclusive(naming.stemcell_lock(_description(stemcell))):
        return _import(context, image_path, stemcell)


def _import(context: Context, path: str, stemcell: StemcellProperties) -> str:
    for attempt in IMPORT_RETRY.attempts(context.client.deadline):
        try:
            image = _existing_image(context, stemcell, path)
            if image is None:
                fingerprint = _upload(context, path, stemcell)
                return _create(context, fingerprint, _alias_description(stemcell))
            context.log.info(f"the server already has stemcell {_description(stemcell)}")
            return _cid_of(context, image, _alias_description(stemcell))
        except (errors.NotFound, errors.AlreadyExists) as failure:
            # Another machine deleted the image after it was listed, or is deleting the one that was uploaded again.
            if attempt.is_last:
                raise
            context.log.warn(f"{failure}; starting again")
    raise errors.NotFound("no attempt succeeded")  # the last attempt raises, so this line is for the type checker


def _cid_of(context: Context, image: Image, description: str) -> str:
    """Return the CID that this director has for an image, or create one. Raises NotFound if the image is deleted."""
    cid = _own_cid(context, image, description)
    if not cid or images.is_being_deleted(context, image):
        return _create(context, image.fingerprint, description)
    _predeploy_if_configured(context, image.fingerprint, description)
    return cid


def _create(context: Context, fingerprint: str, description: str) -> str:
    """Create the CID of a stemcell, an alias of an image, and return it. Raises NotFound if the image is deleted."""
    cid = naming.stemcell_cid(context.new_id())
    with context.rollback() as rollback:
        rollback.add(f"image alias {cid}", lambda context: images.delete_alias(context, cid))
        context.run_operation(
            lambda: context.client.create_alias(cid, fingerprint, description=description),
            what=f"creating image alias {cid}",
            is_done=lambda: exists(lambda: context.client.alias(cid)),
        )
        images.wait_for_deletions(context, fingerprint)
        _predeploy_if_configured(context, fingerprint, description)
    return cid


def delete_stemcell(context: Context, stemcell_cid: str) -> None:
    """Delete the alias, and the image with its last alias. Succeed if there is none.

    Requests: alias, announcement, image, deletion, wait; the last two delete announcement and alias if the image has
    other aliases. Only alias and deletion for a light stemcell, whose image belongs to the operator.
    """
    if is_foreign(stemcell_cid):
        context.log.info(f"there is no stemcell {stemcell_cid}")
        return
    cid = parse_cid(stemcell_cid, "stemcell_cid")
    try:
        alias = context.client.alias(cid)
        if alias.description.startswith(LIGHT):
            context.client.delete_alias(cid)
            return
        with context.exclusive(naming.stemcell_lock(alias.description)):
            if not images.delete_unused(context, alias.target, alias=cid):
                context.client.delete_alias(cid)
    except errors.NotFound:
        context.log.info(f"there is no stemcell {cid}")


def _light_image(context: Context, stemcell: StemcellProperties) -> Image:
    """Return the image that a light stemcell names. Raises CloudError."""
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
    return image


def _existing_image(context: Context, stemcell: StemcellProperties, path: str) -> Image | None:
    """Return an image with the same name, version and content, or None. Read the file only if it has to be compared.

    This CPI and the Go CPI write name and version to the image's property `description`. The content is the same if an
    image of it with the properties of the existing one would have the same fingerprint. The metadata of the Go CPI is
    not known, so an image of it is used if no other one has this content.
    """
    if not (stemcell.name and stemcell.version):
        return None
    candidates = [
        image
        for image in context.client.images(description=_description(stemcell))
        if image.type == "virtual-machine" and image.properties.get("description") == _description(stemcell)
    ]
    if not candidates:
        return None
    of_go_cpi = [image for image in candidates if labels.IMAGE_STEMCELL not in image.properties]
    of_this_cpi = [image for image in candidates if labels.IMAGE_STEMCELL in image.properties]
    return max(
        _with_content(context, of_this_cpi, stemcell, path) or of_go_cpi,
        key=lambda image: _own_cid(context, image, _alias_description(stemcell)),
        default=None,
    )


def _with_content(context: Context, images: list[Image], stemcell: StemcellProperties, path: str) -> list[Image]:
    """Return the images with the same content as the stemcell."""
    if not images:
        return []
    with _open_rootfs(context, path, stemcell) as file:
        documents = [
            metadata(architecture=stemcell.architecture, created=file.created, properties=image.properties)
            for image in images
        ]
        fingerprints = image_fingerprints(documents, file.chunks)
    return [image for image, fingerprint in zip(images, fingerprints, strict=True) if image.fingerprint == fingerprint]


def _own_cid(context: Context, image: Image, description: str) -> str:
    """Return the newest alias of an image that this director created with this description, or an empty string."""
    own = naming.director_digest(context.director)
    created = {
        origin.created: name
        for name, text in image.alias_descriptions.items()
        if text == description and (origin := naming.origin(name)) and origin.director == own
    }
    return created[max(created)] if created and context.director else ""


def _description(stemcell: StemcellProperties) -> str:
    """Return name and version as in the description of an image."""
    return f"{stemcell.name}-{stemcell.version}"


def _alias_description(stemcell: StemcellProperties) -> str:
    """Return name and version as in the description of an alias, and in the property of an image."""
    return f"{stemcell.name} {stemcell.version}"


def _upload(context: Context, path: str, stemcell: StemcellProperties) -> str:
    """Upload the image and return its fingerprint. The header of the image is checked before the upload."""
    with _open_rootfs(context, path, stemcell) as image:
        if image.size > CHECK_SPACE_FROM:
            check_space(context, image.size)
        properties = _properties(context, stemcell)
        document = metadata(architecture=stemcell.architecture, created=image.created, properties=properties)
        upload = Upload(
            document,
            image.chunks,
            image.size,
            boundary=context.new_id(),
            progress=lambda percent: context.log.info(f"uploading the stemcell: {percent} %"),
        )
        context.log.info(f"uploading the stemcell: {image.size >> 20} MiB")
        try:
            response = context.client.upload_image(upload, length=upload.length, content_type=upload.content_type)
            result = operations.wait(context.client, response, what=f"importing stemcell {_description(stemcell)}")
            return Image(result, endpoint="the operation of POST /1.0/images").fingerprint
        except (errors.AlreadyExists, errors.NoResponse, errors.OperationNotFound, errors.MemberUnavailable) as failure:
            # Another call uploaded the same image, or the server has it although its response was lost, or although it
            # cannot copy it to a cluster member.
            if not upload.finished:
                raise
            with _open_rootfs(context, path, stemcell) as again:
                [imported] = image_fingerprints([document], again.chunks)
            if not exists(lambda: context.client.image(imported)):
                raise
            context.log.info(f"the server has the image: {failure}")
            return imported


def _open_rootfs(context: Context, path: str, stemcell: StemcellProperties) -> AbstractContextManager[rootfs.Rootfs]:
    disk, deadline, is_raw = stemcell.disk, context.client.deadline, stemcell.disk_format == "raw"
    used = rootfs.used_clusters(path, disk_mib=disk, deadline=deadline) if is_raw else None
    return rootfs.open_rootfs(path, used, disk_mib=disk, deadline=deadline)


def _properties(context: Context, stemcell: StemcellProperties) -> dict[str, str]:
    """Return the properties of the image."""
    return {
        "description": _description(stemcell),
        "os": (stemcell.os_distro or "linux").title(),
        "architecture": stemcell.architecture,
        "root_device_name": stemcell.root_device_name or "/",
        labels.IMAGE_STEMCELL: _alias_description(stemcell),
        labels.IMAGE_DIRECTOR: context.director,
        **({"root_disk_size": f"{stemcell.disk}MiB"} if stemcell.disk else {}),
    }


def check_space(context: Context, size: int) -> None:
    """Raise NoDiskSpace if the pool has less free space than an image of `size` bytes: no VM would fit.

    One request, and a second one before the error. Nothing is checked if the certificate may not read the space, if the
    driver does not know it, or on a cluster, where each member can have another pool of this name.
    """
    pool = context.config.server.storage_pool_name
    try:
        space = context.client.pool_space(pool)
    except errors.CloudError as failure:
        context.log.debug(f"the space of pool {pool} is not known: {failure}")
        return
    if space.total and space.free < size and not context.features().is_clustered:
        raise errors.NoDiskSpace(
            f"the stemcell's image has {-(-size >> 20)} MiB, and storage pool {pool} has {space.free >> 20} MiB free",
            code="no_space",
            pool=pool,
        )


def _predeploy_if_configured(context: Context, fingerprint: str, description: str) -> None:
    if context.config.server.predeploy_stemcell and not description.startswith(LIGHT):
        _predeploy(context, fingerprint)


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
