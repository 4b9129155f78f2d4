"""Self-signed certificates for tests and test hosts."""

from __future__ import annotations

import subprocess
from pathlib import Path


def create_certificate(
    certificate: Path, key: Path, *, name: str, curve: str | None = "secp384r1", days: int = 2, hosts: str = ""
) -> None:
    """Create a self-signed certificate with the common name `name`, and its key without passphrase.

    The key is RSA if `curve` is None. `hosts` is the subject alternative name, for example `DNS:bosh.io`. The
    certificate is expired if `days` is negative.
    """
    algorithm = ["ec", "-pkeyopt", f"ec_paramgen_curve:{curve}"] if curve else ["rsa:2048"]
    extension = ["-addext", f"subjectAltName={hosts}"] if hosts else []
    for command in (
        ["req", "-x509", "-newkey", *algorithm, "-nodes", "-subj", f"/CN={name}", *extension, "-keyout", key],
        ["x509", "-in", certificate, "-signkey", key, "-days", str(days)],  # req does not accept negative days
    ):
        subprocess.run(["openssl", *command, "-out", certificate], check=True, capture_output=True)
