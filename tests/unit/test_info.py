"""BOSH calls `info` before every other call, so it must cost little more than the start of Python.

These tests check what it imports, not the time it takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bosh_lxd_cpi.protocol import cli, methods, rpc

HOME = Path(__file__).parents[2]
INFO = b'{"method":"info","arguments":[],"context":{"director_uuid":"d","request_id":"cpi-1"},"api_version":1}'
IMPORTED = """
import os, sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
{code}
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""
CALL = "from bosh_lxd_cpi.protocol.cli import main\nmain(sys.argv[2:], os.environ)"


def imported(code: str, request: bytes = b"") -> tuple[set[str], bytes]:
    """Return the modules that code imports in addition to those of Python's start, and its output."""
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", IMPORTED.format(code=code), HOME],
        input=request,
        capture_output=True,
        check=True,
    )
    return set(done.stderr.decode().splitlines()[-1].split()), done.stdout


def imported_by_call(request: bytes) -> set[str]:
    """Return the modules that a call imports, which must not fail."""
    modules, output = imported(CALL, request)
    assert json.loads(output)["error"] is None
    return modules


def test_info_imports_its_own_modules_and_json_only():
    assert imported_by_call(INFO) - imported("import json")[0] == {
        "__future__",
        "bosh_lxd_cpi",
        "bosh_lxd_cpi.errors",
        "bosh_lxd_cpi.protocol",
        "bosh_lxd_cpi.protocol.cli",
        "bosh_lxd_cpi.protocol.rpc",
    }


def test_vm_cloud_properties_import_no_libraries_or_config():
    request = b'{"method":"calculate_vm_cloud_properties","arguments":[{"cpu":1,"ram":512,"ephemeral_disk_size":1024}]}'
    heavy = {"urllib3", "yaml", "ssl", "socket", "logging", "dataclasses", "bosh_lxd_cpi.config", "bosh_lxd_cpi.lxd"}
    assert imported_by_call(request) & heavy == set()


def test_constant_response_equals_the_method():
    assert json.loads(rpc.INFO) == {"result": methods.info(), "error": None, "log": ""}


@pytest.mark.parametrize(
    "request_bytes",
    [
        INFO,
        b'{"method":"info"}',
        b' \n{"method":"info","arguments":null,"context":null}\n',
        b'{"method":"info","arguments":["unexpected"],"context":{},"api_version":3}',
    ],
)
def test_info_ignores_arguments_and_api_version(request_bytes):
    answer = json.loads(cli.respond(request_bytes, ["--nonsense"], {}))
    assert answer["result"] == {"stemcell_formats": ["openstack-qcow2", "openstack-raw"], "api_version": 2}
