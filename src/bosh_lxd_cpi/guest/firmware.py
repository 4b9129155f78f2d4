"""Instance options that select the firmware for a stemcell.

See docs/development/lxd-api.md §7 and docs/development/bosh-contract.md §4.2.
"""

from __future__ import annotations

from collections.abc import Mapping

BIOS_LINES = ("jammy", "bionic", "xenial", "trusty")
"""These stemcells have no EFI boot loader. Later ones have one, unsigned."""

BIOS = {
    "boot.mode": {"boot.mode": "bios"},
    "security.csm": {"security.csm": "true", "security.secureboot": "false"},
    "raw.qemu": {"raw.qemu": "-bios bios-256k.bin", "security.secureboot": "false"},
}
UEFI = {
    "boot.mode": {"boot.mode": "uefi-nosecureboot"},
    "security.csm": {"security.secureboot": "false"},
    "raw.qemu": {"security.secureboot": "false"},
}


def config(stemcell: str, *, dialect: str, overrides: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Instance options for a stemcell.

    `stemcell` is its name and version, `dialect` the server's way to choose firmware, `overrides` the property
    server.instance_config: options by a word in the stemcell's name, else those under `default`, both instead of ours.
    Overrides written for another server line are translated, so that one manifest serves through an upgrade.
    """
    matching = sorted((word for word in overrides if word != "default" and word in stemcell), key=len, reverse=True)
    chosen = overrides[matching[0]] if matching else overrides.get("default")
    if chosen is None:
        return dict((BIOS if _boots_by_bios(stemcell) else UEFI)[dialect])
    return _translated(dict(chosen), dialect)


def _boots_by_bios(stemcell: str) -> bool:
    return any(line in stemcell for line in BIOS_LINES)


def _translated(chosen: dict[str, str], dialect: str) -> dict[str, str]:
    if dialect == "boot.mode" and {"security.csm", "security.secureboot"} & chosen.keys() and "boot.mode" not in chosen:
        csm, secure = chosen.pop("security.csm", "false"), chosen.pop("security.secureboot", "true")
        mode = "bios" if csm == "true" else "uefi-nosecureboot" if secure == "false" else "uefi-secureboot"
        return {"boot.mode": mode, **chosen}
    if dialect != "boot.mode" and "boot.mode" in chosen:
        mode = chosen.pop("boot.mode")
        ours = BIOS if mode == "bios" else UEFI
        return {**({} if mode == "uefi-secureboot" else ours[dialect]), **chosen}
    if dialect == "raw.qemu" and chosen.pop("security.csm", "false") == "true":
        return {**BIOS[dialect], **chosen}
    return chosen
