"""The multipart request body that imports a stemcell as a virtual-machine image, in constant memory."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping


def metadata(*, architecture: str, created: int, properties: Mapping[str, str]) -> bytes:
    """Return the tar with metadata.yaml. Equal arguments give equal bytes, so equal stemcells have equal fingerprints.

    `created` is in Unix seconds. The document always contains `properties`, because a properties header for an image
    without them crashes the daemon (docs/development/lxd-api.md §3). The server rejects a creation_date of 0.
    """
    document = {"architecture": architecture, "creation_date": max(created, 1), "properties": dict(properties)}
    content = json.dumps(document, sort_keys=True).encode()  # JSON is YAML
    member = tarfile.TarInfo("metadata.yaml")
    member.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def image_fingerprints(metadata: Iterable[bytes], rootfs: Iterable[bytes]) -> list[str]:
    """Return for each metadata the fingerprint that a server computes for the image of it and this disk image."""
    digests = [hashlib.sha256(document) for document in metadata]
    for chunk in rootfs:
        for digest in digests:
            digest.update(chunk)
    return [digest.hexdigest() for digest in digests]


class Upload:
    """The body of POST /1.0/images: metadata, then a disk image.

    The part with the name rootfs.img makes it the image of a virtual machine. `size` is the size of the disk image in
    bytes. `progress` is called with the percentage at every tenth.
    """

    def __init__(
        self, metadata: bytes, rootfs: Iterable[bytes], size: int, *, boundary: str, progress: Callable[[int], object]
    ) -> None:
        self._metadata, self._rootfs, self._size, self._progress = metadata, rootfs, size, progress
        self.finished = False
        """Whether the body has been read to its end."""
        self._heads = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode()
            for name in ("metadata", "rootfs.img")
        ]
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = sum(map(len, self._heads)) + len(metadata) + len(b"\r\n") + size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._heads[0] + self._metadata + b"\r\n" + self._heads[1]
        sent = tenths = 0
        for chunk in self._rootfs:
            yield chunk
            sent += len(chunk)
            if sent * 10 // self._size > tenths:
                tenths = sent * 10 // self._size
                self._progress(tenths * 10)
        self.finished = True
        yield self._tail
