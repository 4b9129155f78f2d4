"""The disk image of a stemcell as the server takes it: a valid qcow2 file of limited size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from bosh_lxd_cpi.errors import InvalidStemcell
from bosh_lxd_cpi.runtime.clock import Deadline
from bosh_lxd_cpi.stemcell import qcow2
from bosh_lxd_cpi.stemcell.input_file import InputFile
from bosh_lxd_cpi.stemcell.read_ahead import read_ahead
from bosh_lxd_cpi.stemcell.tarball import DiskImage, find_image

SLACK_MIB = 1024
"""An image may be this much larger than the disk of its stemcell."""
MAX_DISK_MIB = 64 << 10
"""The limit for stemcells that do not have the property `disk`."""


class Rootfs(NamedTuple):
    """A qcow2 file: size in bytes, modification time in Unix seconds or 0, and the content, which can be read once."""

    size: int
    created: int
    chunks: Iterator[bytes]


def used_clusters(path: str, *, disk_mib: int, deadline: Deadline) -> list[bool] | None:
    """Read the raw disk image in a stemcell's `image`, and return which of its clusters are not empty.

    `disk_mib` is the property `disk` of the stemcell. Return None if the image is not raw but qcow2. Raises
    InvalidStemcell and DeadlineExceeded.
    """
    with contextlib.closing(InputFile(path, deadline)) as file:
        image = find_image(file)
        if image.start.startswith(qcow2.MAGIC):
            return None
        _check_size(image, disk_mib)
        with read_ahead(image.chunks()) as chunks:
            return qcow2.used_clusters(chunks)


@contextlib.contextmanager
def open_rootfs(path: str, used: list[bool] | None, *, disk_mib: int, deadline: Deadline) -> Iterator[Rootfs]:
    """Open the disk image in a stemcell's `image`. Convert it if it is raw: then, `used` is from `used_clusters`.

    Raises InvalidStemcell and DeadlineExceeded, also while the chunks are read. After the last chunk, the file has been
    read to its end, and the checksum of the tarball has been verified.
    """
    with contextlib.closing(InputFile(path, deadline)) as file:
        image = find_image(file)
        _check_size(image, disk_mib)
        if used is None:
            qcow2.validate(image.start, image.size)
            content, size = image.chunks(), image.size
        else:
            content, size = qcow2.convert(image.chunks(), used, image.size), qcow2.converted_size(used, image.size)
        with read_ahead(content) as chunks:
            yield Rootfs(size, image.created, chunks)


def _check_size(image: DiskImage, disk_mib: int) -> None:
    limit = disk_mib + SLACK_MIB if disk_mib else MAX_DISK_MIB
    if image.size > limit << 20:
        raise InvalidStemcell(
            f"the stemcell's root.img has {image.size >> 20} MiB, more than the limit of {limit} MiB",
            code="large_stemcell",
        )
