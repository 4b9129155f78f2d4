"""The defect of LXD 6.6 to 6.9 that a cluster member that joined after the project was created accepts no images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host import cluster, server
from tests.host.director import CallError, Director, configuration
from tests.host.tiny_stemcell import STEMCELL, stemcell_image


def test_error_names_the_command_that_helps(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name = f"{request.config.getoption('--hosts')}-images"
    try:
        first, *joined = cluster.up("lxd6", name=name, accepts_images=False).values()
        certificate = Path(first.server_cert).with_name("cluster.crt").read_text("utf-8")
        properties = configuration(first, tls_server_cert=certificate)
        cpi = Director(properties, tmp_path, prefix=server.netns_command(first.name))
        call = "create_stemcell", str(stemcell_image(tmp_path)), STEMCELL
        with pytest.raises(CallError, match=r"Run `systemctl reload snap\.lxd\.daemon` on the member that joined"):
            cpi.call(*call)
        for member in joined:
            server.restart(member.name)
        cpi.call("delete_stemcell", cpi.call(*call))
    finally:
        cluster.down(name)
