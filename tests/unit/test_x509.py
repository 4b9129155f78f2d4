from __future__ import annotations

import pytest

from bosh_lxd_cpi.admin.doctor.checks.x509 import validity
from tests.support.certificates import create_certificate

UNTIL_2109 = """\
-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUKh1zgcSeILjTplNFwzwDRZ2fyi8wCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAgFw0yNjExMjIxMjU5MDBaGA8yMTA5MDExMTEyNTkwMFow
DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDOwQlSlJc9s
WeshE4REM/92fYh1k2Q68Wy3WvHuqAVHgQ55AQoWebzFXBX4gE4e7BOqgdI+PEEm
zJBh1W7mtuejUzBRMB0GA1UdDgQWBBTdDlK0/HX5WA0FHy/Zy0gCts4QmzAfBgNV
HSMEGDAWgBTdDlK0/HX5WA0FHy/Zy0gCts4QmzAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIAy1Uy0x++CQTOv+O9l+kOAH4/m6M+JIt21BXSNxzf5V
AiEAs8ylAqFapO66Im1gI8+tWdgJNkJjvreJAHBtqgGZCBY=
-----END CERTIFICATE-----
"""


def test_reads_utc_time_and_generalized_time():
    assert validity(UNTIL_2109) == (1795352340.0, 4387352340.0)  # 2026-11-22 12:59:00, 2109-01-11 12:59:00 UTC


def test_ignores_text_around_the_first_certificate():
    assert validity(f"subject=CN = a\n{UNTIL_2109}\n{UNTIL_2109.replace('M', 'N')}") == validity(UNTIL_2109)


def test_agrees_with_openssl(tmp_path):
    for curve in (None, "secp384r1"):
        create_certificate(tmp_path / "crt", tmp_path / "key", name="a", curve=curve, days=7)
        begin, end = validity((tmp_path / "crt").read_text(encoding="utf-8"))
        assert end - begin == 7 * 86400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN PRIVATE KEY-----",
        UNTIL_2109[:200],
        UNTIL_2109.replace("MIIB", "MIIC"),
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMAMwAQA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n",
    ],
)
def test_rejects_invalid_certificates(text):
    with pytest.raises(ValueError, match="not a certificate"):
        validity(text)
