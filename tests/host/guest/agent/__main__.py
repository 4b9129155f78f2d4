"""Boot as the BOSH agent would: settings from the config drive, then the network, then the disks; then report."""

from __future__ import annotations

import json
from typing import Any

from . import config_drive, disks, facts, networks, service, settings


def boot() -> dict[str, Any]:
    """Do what the settings say; return what stays true until the next boot, and every error on the way."""
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
        errors += settings.faults(state["user_data"])
        state["networks"] = configure(settings.part(state["user_data"], "networks"), errors)
    return state


def configure(wanted: dict[str, Any], errors: list[str]) -> dict[str, str]:
    """Configure the networks; return network name -> interface name."""
    steps, faults = networks.plan(wanted, networks.interfaces())
    errors += faults
    for step in steps:
        error = networks.apply(step)
        if error:
            errors.append(error)
    return {step.network: step.ifname for step in steps if step.network}


def report(state: dict[str, Any], machine: dict[str, Any], *, seconds: float = 0) -> dict[str, Any]:
    """The whole document, with everything that can change looked at again; disks have so long to turn up."""
    given = state["user_data"] or {}
    now = facts.now()
    nics = {nic["ifname"]: nic for nic in now["nics"]}
    return {
        "agent_id": given.get("agent_id"),
        "vm": given.get("vm"),
        **state,
        "networks": {name: nics.get(ifname) for name, ifname in state["networks"].items()},
        "disks": resolved(settings.part(given, "disks"), seconds),
        **machine,
        **now,
    }


def resolved(wanted: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Where each disk of the settings is: {"system": ..., "ephemeral": ..., <cid>: ...}."""
    hints = {name: wanted.get(name) for name in ("system", "ephemeral")}
    hints.update(settings.part(wanted, "persistent"))
    found = {}
    for name, hint in hints.items():
        if hint:
            try:
                found[name] = disks.resolve(hint, cid=name, seconds=seconds)
            except LookupError as error:
                found[name] = {"error": str(error)}
    return found


def main() -> None:
    state, machine = boot(), facts.machine()
    server, buttons = service.listen()
    print("GUEST-REPORT-BEGIN", json.dumps(report(state, machine, seconds=3)), "GUEST-REPORT-END", sep="\n", flush=True)
    service.serve(server, buttons, lambda: report(state, machine))


if __name__ == "__main__":
    main()
