"""The import of urllib3. Each test needs a new process, because this one has imported everything already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[2]


def run(code: str) -> str:
    """Return what the code prints."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HOME)!r})\n{code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_imports_urllib3_without_importlib_metadata():
    code = (
        "from bosh_lxd_cpi.lxd.library import urllib3\nprint(urllib3.__version__, 'importlib.metadata' in sys.modules)"
    )
    version, is_imported = run(f"assert 'importlib.metadata' not in sys.modules\n{code}").split()
    assert version.startswith("2.") and is_imported == "False"


def test_later_imports_get_the_real_module():
    code = "import bosh_lxd_cpi.lxd.library, importlib.metadata\nprint(importlib.metadata.version('urllib3'))"
    assert run(code).startswith("2.")


def test_keeps_a_module_that_is_imported_already():
    code = "import importlib.metadata as real\nimport bosh_lxd_cpi.lxd.library\nimport importlib.metadata as now"
    assert run(f"{code}\nprint(real is now)") == "True\n"
