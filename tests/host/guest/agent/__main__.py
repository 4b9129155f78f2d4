"""Read the settings from the config drive, configure the networks, resolve the disk hints and report."""

from __future__ import annotations

import json
from typing import Any

from . import config_drive, disks, facts, networks, service, settings


def boot() -> dict[str, Any]:
    """Apply the settings. Return the part of the report that is constant until the next boot, with all errors."""
    errors: list[str] = []
    state: dict[str, Any] = {
        "user_data": None,
        "meta_data": None,
        "config_drive": None,
        "networks": {},
        "errors": errors,
    }
    try:
        drive, files = config_drive.read(config_drive.find(config_drive.DISK_PATHS, seconds=5))
    except (LookupError, OSError) as error:
        errors.append(str(error))
        return state
    state["config_drive"] = {**drive, "files": config_drive.listing(files)}
    for key, name in (("user_data", config_drive.USER_DATA), ("meta_data", config_drive.META_DATA)):
        try:
            state[key] = config_drive.document(files, name)
        except ValueError as error:
            errors.append(str(error))
    if state["user_data"] is not None:
        errors += settings.errors(state["user_data"])
        state["networks"] = configure(settings.part(state["user_data"], "networks"), errors)
    return state


def configure(network_settings: dict[str, Any], errors: list[str]) -> dict[str, str]:
    """Configure the networks. Return the names of the interfaces by network."""
    steps, plan_errors = networks.plan(network_settings, networks.interfaces())
    errors += plan_errors
    for step in steps:
        error = networks.apply(step)
        if error:
            errors.append(error)
    return {step.network: step.ifname for step in steps if step.network}


def report(state: dict[str, Any], machine: dict[str, Any], *, seconds: float = 0) -> dict[str, Any]:
    """Return the report. It waits up to `seconds` for each disk."""
    user_data = state["user_data"] or {}
    current = facts.current()
    nics = {nic["ifname"]: nic for nic in current["nics"]}
    return {
        "agent_id": user_data.get("agent_id"),
        "vm": user_data.get("vm"),
        **state,
        "networks": {name: nics.get(ifname) for name, ifname in state["networks"].items()},
        "disks": resolve_disks(settings.part(user_data, "disks"), seconds),
        **machine,
        **current,
    }


def resolve_disks(disk_settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the devices of the disks: {"system": ..., "ephemeral": ..., <cid>: ...}."""
    hints = {name: disk_settings.get(name) for name in ("system", "ephemeral")}
    hints.update(settings.part(disk_settings, "persistent"))
    devices = {}
    for name, hint in hints.items():
        if hint:
            try:
                devices[name] = disks.resolve(hint, cid=name, seconds=seconds)
            except LookupError as error:
                devices[name] = {"error": str(error)}
    return devices


def main() -> None:
    state, machine = boot(), facts.machine()
    server, buttons = service.listen()
    print("GUEST-REPORT-BEGIN", json.dumps(report(state, machine, seconds=3)), "GUEST-REPORT-END", sep="\n", flush=True)
    service.serve(server, buttons, lambda: report(state, machine))


if __name__ == "__main__":
    main()
