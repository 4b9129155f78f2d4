"""The rendered job with the compiled package, driven as a director's worker drives it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import bosh_job
import pytest

NOBODY = 65534
INFO = {"method": "info", "arguments": [], "context": {"director_uuid": "d"}, "api_version": 1}
HAS_VM = {
    "method": "has_vm",
    "arguments": ["vm-1"],
    "context": {"director_uuid": "d", "request_id": "cpi-1"},
    "api_version": 2,
}


@pytest.fixture
def worker(public_path: Path, packages: Path) -> dict[str, Path]:
    """A director's VM: package and job in place, and a TMPDIR for its workers."""
    bosh_job.render_job(public_path / "jobs", bosh_job.CONNECTION)
    temporary = public_path / "tmp"
    temporary.mkdir()
    shutil.chown(temporary, NOBODY, NOBODY)
    return {"packages": packages, "jobs": public_path / "jobs", "tmp": temporary}


def environ(worker: dict[str, Path]) -> dict[str, str]:
    """A worker's environment, with two variables more that say that /var/vcap is elsewhere."""
    places = {"BOSH_PACKAGES_DIR": str(worker["packages"]), "BOSH_JOBS_DIR": str(worker["jobs"])}
    return bosh_job.worker_environ(worker["tmp"]) | places


def program(worker: dict[str, Path]) -> str:
    return str(worker["jobs"] / "lxd_cpi/bin/cpi")


def call(worker: dict[str, Path], request: dict[str, Any], *, uid: int = 0) -> tuple[dict[str, Any], str]:
    """The answer to a worker, and what went to its log."""
    return bosh_job.call([program(worker)], request, environ=environ(worker), uid=uid)


def test_a_call_as_vcap_with_a_workers_environment_reaches_for_the_server(worker: dict[str, Path]) -> None:
    assert call(worker, INFO, uid=NOBODY)[0]["result"]["api_version"] == 2
    answer, _ = call(worker, HAS_VM, uid=NOBODY)
    assert answer["error"]["type"] == "Bosh::Clouds::CpiError"
    assert "cpi.json" not in answer["error"]["message"], "the configuration was found and read"


def test_a_call_as_vcap_writes_nothing_into_package_or_job(worker: dict[str, Path]) -> None:
    def files() -> dict[str, float]:
        return {str(path): path.lstat().st_mtime for place in ("packages", "jobs") for path in worker[place].rglob("*")}

    before = files()
    call(worker, HAS_VM, uid=NOBODY)
    call(worker, HAS_VM)  # root could
    assert files() == before


def test_throttle_slots_are_made_in_the_workers_tmpdir(worker: dict[str, Path]) -> None:
    given = json.loads(json.dumps(bosh_job.CONNECTION))
    given["lxd_cpi"] = {"server": {"url": "unix:///nonexistent"}, "throttle_config": {"enabled": True}}
    bosh_job.render_job(worker["jobs"], given)
    request = {**HAS_VM, "method": "delete_disk", "arguments": ["vol-p-1"]}
    slot = worker["tmp"] / "lxd_cpi/slot-00"
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", program(worker)]
    with subprocess.Popen(
        command, env=environ(worker), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as cpi:
        assert cpi.stdin and cpi.stdout
        cpi.stdin.write(json.dumps(request))
        cpi.stdin.close()
        while not slot.exists() and cpi.poll() is None:
            time.sleep(0.02)
        cpi.terminate()  # it would go on trying to reach the server
        assert json.loads(cpi.stdout.read())["error"]
    assert slot.is_file()
    assert stat.S_IMODE(slot.parent.stat().st_mode) == 0o770


def test_an_operators_odd_environment_does_no_harm(worker: dict[str, Path]) -> None:
    odd = {
        "PYTHONPATH": "/nonexistent",
        "PYTHONHOME": "/nonexistent",
        "PYTHONSTARTUP": "/nonexistent",
        "LC_ALL": "xx_YY",
        "BOSH_PACKAGES_DIR": str(worker["packages"]),
        "BOSH_JOBS_DIR": str(worker["jobs"]),
        "CDPATH": "/",
        "ENV": "/nonexistent",
    }
    answer, _ = bosh_job.call([program(worker)], INFO, environ=odd)
    assert answer["error"] is None


def test_bin_cpi_starts_no_second_process(worker: dict[str, Path]) -> None:
    """Each start costs a call milliseconds, and BOSH asks for info before every call."""
    script = (worker["jobs"] / "lxd_cpi/bin/cpi").read_text()
    assert "$(" not in script and "`" not in script and "|" not in script.replace("||", "")
