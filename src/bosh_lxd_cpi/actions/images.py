"""Deletion of an image for which a create_stemcell may create an alias at the same time.

Stemcells share images. The image is deleted with its last alias, or by cleanup when it has none. The servers delete an
image with all its aliases, and ignore If-Match (docs/development/lxd-api.md §3). So between the
check for other aliases and the deletion, a create_stemcell could create an alias and return a CID without an image.

On one machine, both sides hold the same lock, `naming.stemcell_lock`. For other machines, each side writes an alias
before it reads the image:

    deletion                                create_stemcell
    1. create an alias that announces it    1. create the alias of the stemcell
    2. read the image's aliases             2. read the image's aliases
    3. delete it if no stemcell has it      3. wait while a deletion is announced; start again if the image is gone

The server serializes the two step 1. If the deletion's is first, create_stemcell reads the announcement in step 2 and
waits. If the other one is first, the deletion reads the stemcell's alias in step 2 and keeps the image. A deletion that
is killed or fails leaves its announcement. It expires after ANNOUNCEMENT_SECONDS, because no deletion takes longer. It
is deleted with the image.

One race between machines remains: a DELETE without response is sent again. If another machine imported the image again
in between, the second DELETE deletes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.context import Context
from bosh_lxd_cpi.lxd.operations import exists
from bosh_lxd_cpi.lxd.resources import Image
from bosh_lxd_cpi.model import naming

ANNOUNCEMENT_SECONDS = 300.0
"""The deadline of delete_stemcell, and of each removal by cleanup."""
POLL_SECONDS = 0.5


def delete_unused(context: Context, fingerprint: str, *, alias: str = "") -> bool:
    """Delete an image that has no alias, or only `alias`. Return whether it was deleted. Raises NotFound.

    Requests: announcement, image, deletion, wait. Servers delete an image on all cluster members or not at all.
    """
    announcement = naming.deletion_alias(context.new_id())
    with context.rollback() as rollback:
        rollback.add(f"image alias {announcement}", lambda context: delete_alias(context, announcement))
        context.run_operation(
            lambda: context.client.create_alias(announcement, fingerprint, description="BOSH deletes this image"),
            what=f"announcing the deletion of image {fingerprint[:12]}",
            is_done=lambda: exists(lambda: context.client.alias(announcement)),
        )
        is_unused = set(stemcell_aliases(context.client.image(fingerprint).alias_names)) <= {alias}
    if not is_unused:
        delete_alias(context, announcement)
        return False
    try:
        context.run_operation(
            lambda: context.client.delete_image(fingerprint),
            what=f"deleting image {fingerprint[:12]}",
            name=fingerprint,
            is_done=lambda: not exists(lambda: context.client.image(fingerprint)),
        )
    except errors.MemberUnavailable:
        delete_alias(context, announcement)
        raise
    # After another error, the announcement stays until it expires: the server may still delete the image.
    return True


def delete_alias(context: Context, name: str) -> None:
    """Delete an alias if it exists."""
    with contextlib.suppress(errors.NotFound):
        context.client.delete_alias(name)


def wait_for_deletions(context: Context, fingerprint: str) -> None:
    """Wait for the end of all deletions of an image that were announced: one request without any.

    Raises NotFound if the image was deleted.
    """
    while is_being_deleted(context, context.client.image(fingerprint)):
        context.log.info(f"waiting for the call that deletes image {fingerprint[:12]}")
        context.client.deadline.sleep(POLL_SECONDS)


def is_being_deleted(context: Context, image: Image) -> bool:
    """Return whether a deletion of the image is announced and not expired."""
    origins = [naming.origin(name) for name in image.alias_names if name.startswith(naming.DELETION)]
    now = context.clock.time()
    return any(origin and abs(now - origin.created) < ANNOUNCEMENT_SECONDS for origin in origins)


def stemcell_aliases(names: Iterable[str]) -> list[str]:
    """Return the names of aliases without the announcements of deletions."""
    return [name for name in names if not name.startswith(naming.DELETION)]
