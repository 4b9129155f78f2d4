from __future__ import annotations

from bosh_lxd_cpi.runtime import cluster_registry

URL = "https://a:8443"


def test_knows_the_clusters_that_were_recorded(tmp_path):
    directory = str(tmp_path / "locks")
    assert not cluster_registry.is_known(directory, URL)
    cluster_registry.remember(directory, URL)
    assert cluster_registry.is_known(directory, URL) and not cluster_registry.is_known(directory, "https://b:8443")


def test_unusable_directory_is_not_an_error(tmp_path):
    (tmp_path / "file").touch()
    cluster_registry.remember(str(tmp_path / "file"), URL)
    assert not cluster_registry.is_known(str(tmp_path / "file"), URL)
