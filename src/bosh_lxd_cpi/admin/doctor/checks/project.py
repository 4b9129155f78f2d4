"""The project that everything lives in, the profile that VMs start from, and what was left behind there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.cleanup import owner, prune
from bosh_lxd_cpi.admin.doctor.checks.server import LINES, boot_options
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.lxd.features import Features

SEPARATE = {"features.images": "images", "features.storage.volumes": "volumes", "features.profiles": "profiles"}
LIMITED = ("instances", "virtual-machines", "cpu", "memory", "disk")
HOUR = 3600.0


class Restriction(NamedTuple):
    """A setting of a restricted project that stands in the way of something."""

    key: str
    default: str
    blocks: tuple[str, ...]
    needed: str
    what: str


RESTRICTIONS = (
    Restriction("restricted.snapshots", "block", ("block",), "allow", "snapshots of disks"),
    Restriction("restricted.devices.disk", "managed", ("block",), "managed", "disks"),
    Restriction("restricted.devices.nic", "managed", ("block",), "managed", "networks"),
)
LOWLEVEL = Restriction("restricted.virtual-machines.lowlevel", "block", ("block",), "allow", "BIOS by raw.qemu")
TARGET = Restriction("restricted.cluster.target", "block", ("block",), "allow", "server.target")


def project(patient: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Whether it is there, is BOSH's own, and lets us do what is needed."""
    name = patient.server.project_name
    patient.projects = {found["name"]: found for found in patient.client().projects().metadata}
    if name not in patient.projects:
        if patient.restricted is None or name in patient.restricted:  # else the reason has been told
            yield patient.fail("project", f"there is no project {name}", "no_project")
        return
    config = patient.projects[name].get("config") or {}
    faults = list(_faults(patient, features, name, config))
    yield from faults or [patient.ok("project", f"{name}, with " + _own(name, config))]


def _own(name: str, config: dict[str, str]) -> str:
    own = [what for key, what in SEPARATE.items() if name == "default" or config.get(key) == "true"]
    return f"its own {', '.join(own)}" if own else "nothing of its own"


def _faults(patient: CheckContext, features: Features, name: str, config: dict[str, str]) -> Iterator[CheckResult]:
    for key in ("features.images", "features.storage.volumes"):
        if name != "default" and config.get(key) != "true":
            yield patient.warn(
                "project",
                f"{name} shares its {SEPARATE[key]} with project default and with others",
                "shared_with_default",
                key=key,
            )
    if config.get("restricted") == "true":
        for restriction in _in_the_way(patient, features):
            if config.get(restriction.key, restriction.default) in restriction.blocks:
                yield patient.fail(
                    "project",
                    f"{name} is restricted and allows no {restriction.what}",
                    "project_setting",
                    key=restriction.key,
                    value=restriction.needed,
                )
    if any(f"limits.{what}" in config for what in LIMITED):
        used = patient.client().project_state().metadata["resources"]
        for what in LIMITED:
            limit, usage = used[what]["Limit"], used[what]["Usage"]
            if 0 <= limit <= usage:
                given = config[f"limits.{what}"]
                yield patient.fail(
                    "project",
                    f"{name} is full: limits.{what} is {given}, and all of it is used",
                    "project_limit",
                    key=f"limits.{what}",
                )


def _in_the_way(patient: CheckContext, features: Features) -> Iterator[Restriction]:
    options = (boot_options(patient, features, line) for line in LINES)
    if any(key.startswith("raw.") for keys in options for key in keys):
        yield LOWLEVEL
    if patient.server.target and features.clustered:
        yield TARGET
    yield from RESTRICTIONS


def profile(patient: CheckContext) -> Iterator[CheckResult]:
    """Whether the profile is there."""
    name, project = patient.server.profile_name, patient.server.project_name
    devices = {found["name"]: found.get("devices") or {} for found in patient.client().profiles().metadata}
    if name not in devices:
        yield patient.fail("profile", f"there is no profile {name} in project {project}", "create_profile")
    else:
        yield patient.ok("profile", f"{name}, devices: {', '.join(sorted(devices[name])) or 'none'}")


def leftovers(patient: CheckContext) -> Iterator[CheckResult]:
    """What bin/cleanup would remove, and persistent disks without a VM, which it keeps."""
    found = inventory.read(patient.client(), patient.server.storage_pool_name)
    rules = prune.Policy(prune.ALL, HOUR, False, patient.clock.time())
    unused = [resource for resource in found.resources if not rules.skip_reason(resource)]
    whose = owner.this_machines(patient.settings, found.directors)
    others = [resource for resource in unused if resource.director != whose]
    own = len(unused) - len(others)
    orphans = sum(resource.state == inventory.ORPHAN for resource in found.resources)
    if own:
        yield patient.warn("leftovers", f"{own} of {len(found.resources)} resources are used by nobody", "leftovers")
    if others:
        yield patient.warn(
            "leftovers",
            f"{len(others)} of {len(found.resources)} resources are used by nobody and not surely ours",
            "leftovers_of_others",
        )
    if orphans:
        yield patient.warn("orphans", f"{orphans} persistent disks have no VM", "orphans")
    if not unused and not orphans:
        yield patient.ok("leftovers", f"none among {len(found.resources)} resources of BOSH's")
