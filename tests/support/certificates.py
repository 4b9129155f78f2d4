"""Self-signed certificates for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path


def create_certificate(certificate: Path, key: Path, *, name: str, curve: str = "secp384r1", days: int = 2) -> None:
    """Create a self-signed certificate with the common name `name`, and its key without passphrase."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-nodes"]
    options = ["-days", str(days), "-subj", f"/CN={name}", "-keyout", key, "-out", certificate]
    subprocess.run([*command, *options], check=True, capture_output=True)
