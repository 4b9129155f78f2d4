"""The settings of the BOSH agent in a VM (docs/development/bosh-contract.md §2 and §3.3)."""

from __future__ import annotations

from typing import Any

from bosh_lxd_cpi.guest import disks
from bosh_lxd_cpi.model import naming


def agent_settings(
    *,
    agent_id: str,
    vm_cid: str,
    networks: dict[str, Any],
    env: dict[str, Any],
    mbus: str,
    ntp: list[str],
    ephemeral: bool,
    kind: str,
) -> dict[str, Any]:
    """The document on the config drive.

    `disks.system` must be a text: an object breaks the agent's whole unmarshalling. `disks.persistent` stays empty: the
    agent learns persistent disks by the hints of attach_disk, and complains about any it finds here. `env` goes through
    untouched, its blobstores are vital.
    """
    return {
        "agent_id": agent_id,
        "vm": {"name": vm_cid, "id": vm_cid},
        "mbus": mbus,
        "ntp": ntp,
        "networks": networks,
        "disks": {
            "system": disks.path(naming.ROOT_DEVICE, kind=kind),
            "ephemeral": disks.path(naming.EPHEMERAL_DEVICE, kind=kind) if ephemeral else None,
            "persistent": {},
        },
        "env": env,
    }
