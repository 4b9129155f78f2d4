"""The agent settings: everything that the BOSH agent in the VM learns from the CPI.

See docs/development/bosh-contract.md §2 and §3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.model import naming


def agent_settings(
    *,
    agent_id: str,
    vm_cid: str,
    networks: Mapping[str, Any],
    env: Mapping[str, Any],
    mbus: str,
    ntp: Iterable[str],
    ephemeral: bool,
    kind: str,
) -> dict[str, Any]:
    """Return the document on the config drive. `kind` is `lxd` or `incus`; `ephemeral` tells if there is such a disk.

    `disks.system` must be a string: with an object, the agent fails to parse the whole document. `disks.persistent`
    stays empty: the agent learns persistent disks from the hints of attach_disk and fails on unexpected ones. `env` is
    passed on unchanged, because the agent needs its blobstores.
    """
    return {
        "agent_id": agent_id,
        "vm": {"name": vm_cid, "id": vm_cid},
        "mbus": mbus,
        "ntp": list(ntp),
        "networks": networks,
        "disks": {
            "system": disks.path(naming.ROOT_DEVICE, kind=kind),
            "ephemeral": disks.path(naming.EPHEMERAL_DEVICE, kind=kind) if ephemeral else None,
            "persistent": {},
        },
        "env": env,
    }
