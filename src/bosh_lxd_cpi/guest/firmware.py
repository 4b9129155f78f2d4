"""The firmware that a stemcell needs, in the options of this server.

See docs/development/lxd-api.md §7 and docs/development/bosh-contract.md §4.2.
"""

from __future__ import annotations

from collections.abc import Mapping

BIOS_LINES = ("jammy", "bionic", "xenial", "trusty")
"""These stemcell lines have no EFI boot loader. Later lines have an unsigned one."""

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
"""Options by dialect: the option with which the server selects the firmware."""


def config(stemcell: str, *, dialect: str, overrides: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the instance options for a stemcell.

    `stemcell` is its name and version. `overrides` is the property server.instance_config: options by a part of the
    stemcell's name, or `default` for all others, which replace the options of the CPI. They are translated to the
    server's dialect, so that one manifest works before and after an upgrade of the server.
    """
    matching = [word for word in overrides if word != "default" and word in stemcell]
    options = overrides[max(matching, key=len)] if matching else overrides.get("default")
    if options is None:
        return dict((BIOS if _needs_bios(stemcell) else UEFI)[dialect])
    return _translate(dict(options), dialect)


def _needs_bios(stemcell: str) -> bool:
    return any(line in stemcell for line in BIOS_LINES)


def _translate(options: dict[str, str], dialect: str) -> dict[str, str]:
    if dialect == "boot.mode":
        if "boot.mode" in options or not {"security.csm", "security.secureboot"} & options.keys():
            return options
        csm, secure_boot = options.pop("security.csm", "false"), options.pop("security.secureboot", "true")
        mode = "bios" if csm == "true" else "uefi-nosecureboot" if secure_boot == "false" else "uefi-secureboot"
        return {"boot.mode": mode, **options}
    if "boot.mode" in options:
        mode = options.pop("boot.mode")
        firmware = BIOS if mode == "bios" else UEFI
        return {**({} if mode == "uefi-secureboot" else firmware[dialect]), **options}
    if dialect == "raw.qemu" and options.pop("security.csm", "false") == "true":
        return {**BIOS[dialect], **options}
    return options
