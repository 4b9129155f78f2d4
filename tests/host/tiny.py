"""The smallest things that a server takes for a stemcell and a VM: there is nothing in them to boot, so they are quick."""
from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

STEMCELL = {"name": "bosh-openstack-kvm-ubuntu-jammy-tiny", "version": "1", "disk": 16, "disk_format": "qcow2", "architecture": "x86_64"}
VM = {"cpu": 1, "ram": 64, "root_disk": 32, "ephemeral_disk": 16}


def stemcell_image(directory: Path) -> Path:
    """A stemcell's image file with an empty disk of 16 MiB."""
    disk, image = directory / "root.img", directory / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    with tarfile.open(image, "w:gz") as tar:
        tar.add(disk, "root.img")
    disk.unlink()
    return image
