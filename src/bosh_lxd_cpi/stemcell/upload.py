"""A stemcell as the multipart upload that makes it a virtual-machine image, in constant memory."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping


def metadata(*, architecture: str, created: int, properties: Mapping[str, str]) -> bytes:
    """Return a tar archive with metadata.yaml. Equal stemcells give equal bytes, so they have equal fingerprints.

    It always has `properties`: without them, a properties header can crash the daemon (docs/development/lxd-api.md §3).
    """
    document = {"architecture": architecture, "creation_date": max(created, 1), "properties": dict(properties)}
    content = json.dumps(document, sort_keys=True).encode()  # JSON is YAML
    member = tarfile.TarInfo("metadata.yaml")
    member.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Upload:
    """The body of POST /1.0/images: metadata first, then a disk image of known size.

    The part called rootfs.img is what makes it a virtual machine's image. `fingerprint` is the image's own, known when
    the body has been read to its end.
    """

    def __init__(
        self, metadata: bytes, rootfs: Iterable[bytes], size: int, *, boundary: str, progress: Callable[[int], object]
    ) -> None:
        self._metadata, self._rootfs, self._size, self._progress = metadata, rootfs, size, progress
        self._hash = hashlib.sha256()
        self.finished = False
        self._heads = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode()
            for name in ("metadata", "rootfs.img")
        ]
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = sum(map(len, self._heads)) + len(metadata) + len(b"\r\n") + size + len(self._tail)

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        self._hash.update(self._metadata)
        yield self._heads[0] + self._metadata + b"\r\n" + self._heads[1]
        done = tenths = 0
        for chunk in self._rootfs:
            self._hash.update(chunk)
            yield chunk
            done += len(chunk)
            if done * 10 // self._size > tenths:
                tenths = done * 10 // self._size
                self._progress(tenths * 10)
        self.finished = True
        yield self._tail
