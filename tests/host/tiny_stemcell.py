"""The smallest stemcell and VM that a server accepts. They contain no operating system, so they are fast."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

from tests.host import server

STEMCELL = {
    "name": "bosh-openstack-kvm-ubuntu-jammy-tiny",
    "version": "1",
    "disk": 16,
    "disk_format": "qcow2",
    "architecture": "x86_64",
}
VM = {"cpu": 1, "ram": 64, "ephemeral_disk": 16}


def stemcell_image(directory: Path, *, mib: int = 16) -> Path:
    """Create the image file of a stemcell with an empty disk and return its path."""
    disk, image = directory / "root.img", directory / f"image-{mib}"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, f"{mib}M"], check=True)
    with tarfile.open(image, "w:gz") as tar:
        tar.add(disk, "root.img")
    disk.unlink()
    return image


class Connection(http.client.HTTPConnection):
    """A connection to the UNIX socket of the server. It avoids one client process per request."""

    def __init__(self, host: server.Facts) -> None:
        super().__init__("localhost")
        self.facts = host

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(Path(self.facts.server_cert).parent / "unix.socket"))

    def query(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the metadata of the response, or None if it is an error."""
        try:
            self.request(
                method,
                f"{path}{'&' if '?' in path else '?'}project={self.facts.project}",
                json.dumps(body) if body else None,
            )
            return json.loads(self.getresponse().read())["metadata"]
        finally:
            self.close()

    def run_operation(self, method: str, path: str, body: Any = None) -> None:
        """Send a request and wait for its operation. Errors are ignored."""
        operation = self.query(method, path, body)
        if operation:
            self.query("GET", f"/1.0/operations/{operation['id']}/wait?timeout=60")

    def names(self) -> set[str]:
        """Return the names of all instances, images, aliases, volumes and snapshots of the project."""
        pools = [url.rsplit("/", 1)[1] for url in self.query("GET", "/1.0/storage-pools")]
        urls = [
            *self.query("GET", "/1.0/instances"),
            *self.query("GET", "/1.0/images"),
            *self.query("GET", "/1.0/images/aliases"),
        ]
        for pool in pools:
            volumes = self.query("GET", f"/1.0/storage-pools/{pool}/volumes/custom")
            urls += volumes
            for volume in volumes:
                if "/snapshots/" not in volume:  # some servers list snapshots with the volumes
                    urls += self.query("GET", f"{volume.partition('?')[0]}/snapshots")
        return {url.partition("?")[0].rsplit("/", 1)[1] for url in urls}

    def wait_until_idle(self) -> None:
        """Wait until no operation has run on the server for 0.3 s."""
        idle_checks = 0
        while idle_checks < 3:
            time.sleep(0.1)
            running = (self.query("GET", "/1.0/operations?recursion=1") or {}).get("running") or ()
            idle_checks = 0 if any(operation["class"] != "token" for operation in running) else idle_checks + 1
