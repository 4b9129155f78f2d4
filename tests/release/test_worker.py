"""The rendered job with the compiled package, with the calls of a worker of the director."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.release import bosh_job

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
    """The director's VM: the package, the job and a TMPDIR for the workers."""
    bosh_job.render_job(public_path / "jobs", bosh_job.CONNECTION)
    temporary = public_path / "tmp"
    temporary.mkdir()
    shutil.chown(temporary, NOBODY, NOBODY)
    return {"packages": packages, "jobs": public_path / "jobs", "tmp": temporary}


def environ(worker: dict[str, Path]) -> dict[str, str]:
    """Return the environment of a worker, with variables for the directories that replace /var/vcap."""
    directories = {"BOSH_PACKAGES_DIR": str(worker["packages"]), "BOSH_JOBS_DIR": str(worker["jobs"])}
    return bosh_job.worker_environ(worker["tmp"]) | directories


def program(worker: dict[str, Path]) -> str:
    return str(worker["jobs"] / "lxd_cpi/bin/cpi")


def call(worker: dict[str, Path], request: dict[str, Any], *, uid: int = 0) -> tuple[dict[str, Any], str]:
    """Return the response and stderr of a call."""
    return bosh_job.call([program(worker)], request, environ=environ(worker), uid=uid)


def test_connects_to_the_server_as_vcap(worker: dict[str, Path]) -> None:
    assert call(worker, INFO, uid=NOBODY)[0]["result"]["api_version"] == 2
    response, _ = call(worker, HAS_VM, uid=NOBODY)
    assert response["error"]["type"] == "Bosh::Clouds::CpiError"
    assert "cpi.json" not in response["error"]["message"], "the configuration is loaded"


def test_writes_nothing_to_package_and_job(worker: dict[str, Path]) -> None:
    def files() -> dict[str, float]:
        return {
            str(path): path.lstat().st_mtime
            for directory in ("packages", "jobs")
            for path in worker[directory].rglob("*")
        }

    before = files()
    call(worker, HAS_VM, uid=NOBODY)
    call(worker, HAS_VM)  # root has write access
    assert files() == before


def test_creates_throttle_slots_in_tmpdir(worker: dict[str, Path]) -> None:
    properties = json.loads(json.dumps(bosh_job.CONNECTION))
    properties["lxd_cpi"] = {"server": {"url": "unix:///nonexistent"}, "throttle_config": {"enabled": True}}
    bosh_job.render_job(worker["jobs"], properties)
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
        cpi.terminate()  # the call waits for the server
        assert json.loads(cpi.stdout.read())["error"]
    assert slot.is_file()
    assert stat.S_IMODE(slot.parent.stat().st_mode) == 0o770


def test_ignores_unusual_environment_variables(worker: dict[str, Path]) -> None:
    environ = {
        "PYTHONPATH": "/nonexistent",
        "PYTHONHOME": "/nonexistent",
        "PYTHONSTARTUP": "/nonexistent",
        "LC_ALL": "xx_YY",
        "BOSH_PACKAGES_DIR": str(worker["packages"]),
        "BOSH_JOBS_DIR": str(worker["jobs"]),
        "CDPATH": "/",
        "ENV": "/nonexistent",
    }
    response, _ = bosh_job.call([program(worker)], INFO, environ=environ)
    assert response["error"] is None


def test_bin_cpi_starts_no_other_process(worker: dict[str, Path]) -> None:
    """Each process costs milliseconds, and BOSH calls info before each call."""
    script = (worker["jobs"] / "lxd_cpi/bin/cpi").read_text()
    assert "$(" not in script and "`" not in script and "|" not in script.replace("||", "")
