from __future__ import annotations

from bosh_lxd_cpi.runtime import server_facts
from bosh_lxd_cpi.runtime.server_facts import CLUSTER, FAILED

URL = "https://a:8443"


def test_knows_the_facts_that_were_recorded(tmp_path):
    directory = str(tmp_path / "locks")
    assert server_facts.recorded_at(directory, CLUSTER, URL) is None
    server_facts.record(directory, CLUSTER, URL)
    [file] = (tmp_path / "locks").iterdir()
    assert server_facts.recorded_at(directory, CLUSTER, URL) == file.stat().st_mtime
    assert server_facts.recorded_at(directory, CLUSTER, "https://b:8443") is None
    assert server_facts.recorded_at(directory, FAILED, URL) is None


def test_unusable_directory_is_not_an_error(tmp_path):
    (tmp_path / "file").touch()
    server_facts.record(str(tmp_path / "file"), CLUSTER, URL)
    assert server_facts.recorded_at(str(tmp_path / "file"), CLUSTER, URL) is None
