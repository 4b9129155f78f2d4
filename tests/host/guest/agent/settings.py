"""Check the types of the settings. The BOSH agent rejects other types, because Go decodes them into typed fields."""

from __future__ import annotations

from typing import Any

HINT_STRINGS = ("path", "id", "volume_id", "lun", "host_device_id")


def errors(settings: dict[str, Any]) -> list[str]:
    """Return an error for each value whose type the agent rejects (bosh-agent, settings/settings.go)."""
    disks = part(settings, "disks")
    messages = [
        f"{name} is {value!r}, not a string"
        for name, value in {
            "agent_id": settings.get("agent_id"),
            "mbus": settings.get("mbus"),
            "vm.name": part(settings, "vm").get("name"),
            "disks.system": disks.get("system"),
        }.items()
        if not isinstance(value, str)
    ]
    hints = {"disks.ephemeral": disks.get("ephemeral")}
    hints.update({f"disks.persistent.{cid}": hint for cid, hint in part(disks, "persistent").items()})
    for name, hint in hints.items():
        messages += hint_errors(name, hint)
    for name, network in part(settings, "networks").items():
        messages += [
            f"networks.{name}.{key} is {network[key]!r}, not a string"
            for key in ("type", "ip", "netmask", "gateway", "mac", "prefix")
            if network.get(key) is not None and not isinstance(network[key], str)
        ]
    return messages


def hint_errors(name: str, hint: Any) -> list[str]:
    if hint is None or isinstance(hint, str):
        return []
    if not isinstance(hint, dict):
        return [f"{name} is {hint!r}, neither a string nor an object"]
    return [
        f"{name}.{key} is {hint[key]!r}, not a string"
        for key in HINT_STRINGS
        if key in hint and not isinstance(hint[key], str)
    ]


def part(settings: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the object under `key`, or an empty object if it is missing or null."""
    return settings.get(key) or {}
