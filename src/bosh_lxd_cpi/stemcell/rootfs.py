"""The disk image of a stemcell as the server takes it: a valid qcow2 file of limited size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.stemcell import qcow2
from bosh_lxd_cpi.stemcell.read_ahead import read_ahead
from bosh_lxd_cpi.stemcell.tarball import DiskImage, open_image

SLACK_MIB = 1024
"""An image may be this much larger than the disk of its stemcell."""
MAX_DISK_MIB = 64 << 10
"""The limit for stemcells that do not have the property `disk`."""


class Rootfs(NamedTuple):
    """A qcow2 file: size in bytes, modification time in Unix seconds or 0, and the content, which can be read once."""

    size: int
    created: int
    chunks: Iterator[bytes]


@contextlib.contextmanager
def open_rootfs(
    path: str, *, disk_mib: int, is_raw: bool, deadline: Deadline, log: Callable[[str], object]
) -> Iterator[Rootfs]:
    """Open the disk image in the stemcell's tarball and convert it if it is raw.

    Raises InvalidStemcell and DeadlineExceeded, also while the chunks are read. After the last chunk, the checksum of
    the tarball has been verified.
    """
    with open_image(path, deadline) as image:
        _check_size(image, disk_mib)
        if not is_raw or image.start.startswith(qcow2.MAGIC):
            qcow2.validate(image.start, image.size)
            with read_ahead(image.chunks()) as chunks:
                yield Rootfs(image.size, image.created, chunks)
            return
        log("the stemcell is raw: reading it once to find out which parts of it are empty")
        used = qcow2.used_clusters(image.chunks())
    with open_image(path, deadline) as image, read_ahead(qcow2.convert(image.chunks(), used, image.size)) as chunks:
        yield Rootfs(qcow2.converted_size(used, image.size), image.created, chunks)


def _check_size(image: DiskImage, disk_mib: int) -> None:
    limit = disk_mib + SLACK_MIB if disk_mib else MAX_DISK_MIB
    if image.size > limit << 20:
        raise InvalidStemcell(f"the stemcell's root.img has {image.size >> 20} MiB, more than the limit of {limit} MiB")
