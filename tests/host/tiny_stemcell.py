"""The smallest resources that a server takes for a stemcell and a VM: nothing in them boots, so they are quick."""

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
VM = {"cpu": 1, "ram": 64, "root_disk": 32, "ephemeral_disk": 16}


def stemcell_image(directory: Path, *, mib: int = 16) -> Path:
    """A stemcell's image file with an empty disk."""
    disk, image = directory / "root.img", directory / f"image-{mib}"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, f"{mib}M"], check=True)
    with tarfile.open(image, "w:gz") as tar:
        tar.add(disk, "root.img")
    disk.unlink()
    return image


class Connection(http.client.HTTPConnection):
    """To the server's own socket: it asks the same as its client, without a process for every question."""

    def __init__(self, host: server.Facts) -> None:
        super().__init__("localhost")
        self.facts = host

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(Path(self.facts.server_cert).parent / "unix.socket"))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The metadata of the answer, or None if it is an error."""
        try:
            self.request(
                method,
                f"{path}{'&' if '?' in path else '?'}project={self.facts.project}",
                json.dumps(body) if body else None,
            )
            return json.loads(self.getresponse().read())["metadata"]
        finally:
            self.close()

    def do(self, method: str, path: str, body: Any = None) -> None:
        """Have a change made, and wait for it; whether it can be is not asked."""
        operation = self.ask(method, path, body)
        if operation:
            self.ask("GET", f"/1.0/operations/{operation['id']}/wait?timeout=60")

    def names(self) -> set[str]:
        """Everything in the project that a CPI can make."""
        pools = [url.rsplit("/", 1)[1] for url in self.ask("GET", "/1.0/storage-pools")]
        urls = [
            *self.ask("GET", "/1.0/instances"),
            *self.ask("GET", "/1.0/images"),
            *self.ask("GET", "/1.0/images/aliases"),
        ]
        for pool in pools:
            volumes = self.ask("GET", f"/1.0/storage-pools/{pool}/volumes/custom")
            urls += volumes
            for volume in volumes:
                if "/snapshots/" not in volume:  # some servers list them with the volumes
                    urls += self.ask("GET", f"{volume.partition('?')[0]}/snapshots")
        return {url.partition("?")[0].rsplit("/", 1)[1] for url in urls}

    def wait_until_idle(self) -> None:
        """Until the server has carried out what it was told to, whoever still wants to know."""
        quiet = 0
        while quiet < 3:
            time.sleep(0.1)
            running = (self.ask("GET", "/1.0/operations?recursion=1") or {}).get("running") or ()
            quiet = 0 if any(operation["class"] != "token" for operation in running) else quiet + 1
