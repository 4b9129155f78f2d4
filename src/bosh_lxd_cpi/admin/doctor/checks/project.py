"""Checks the project of BOSH's resources, the profile of its VMs, and the unused resources in the project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.cleanup import owner, prune
from bosh_lxd_cpi.admin.doctor.checks.server import STEMCELL_LINES, boot_options
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.admin.output import WARN, count
from bosh_lxd_cpi.lxd.features import Features
from bosh_lxd_cpi.model import naming

SEPARATE = {"features.images": "images", "features.storage.volumes": "volumes", "features.profiles": "profiles"}
REQUIRED_SEPARATE = ("features.images", "features.storage.volumes")
LIMITS = ("instances", "virtual-machines", "cpu", "memory", "disk")
FIRST_NIC = "eth0"
UNSUITABLE_OPTIONS = {
    "migration.stateful": "VMs with disks in local pools cannot start",
    "security.protection.delete": "BOSH cannot delete VMs",
}
MIN_AGE_SECONDS = 3600.0
"""The default of bin/cleanup --min-age."""


class Restriction(NamedTuple):
    """A setting of restricted projects that blocks something that the CPI needs."""

    key: str
    default: str
    blocking: tuple[str, ...]
    required: str
    subject: str


RESTRICTIONS = (
    Restriction("restricted.snapshots", "block", ("block",), "allow", "snapshots of disks"),
    Restriction("restricted.devices.disk", "managed", ("block",), "managed", "disks"),
    Restriction("restricted.devices.nic", "managed", ("block",), "managed", "networks"),
)
LOW_LEVEL = Restriction("restricted.virtual-machines.lowlevel", "block", ("block",), "allow", "BIOS by raw.qemu")
TARGET = Restriction("restricted.cluster.target", "block", ("block",), "allow", "server.target")


def project(context: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Check that the project exists, is separate, and allows what the CPI needs. Sets the projects of the context."""
    name = context.server.project_name
    context.projects = {project.name: project for project in context.client().projects()}
    if name not in context.projects:
        # Otherwise the result of the trust has the reason.
        if context.restricted_projects is None or name in context.restricted_projects:
            yield context.fail("project", f"there is no project {name}", "no_project")
        return
    config = context.projects[name].config
    problems = [
        *_shared(context, config),
        *_restrictions(context, features, config),
        *_limits(context, config),
    ]
    yield from problems or [context.ok("project", f"{name}, {_separate_objects(name, config)}")]


def _separate_objects(name: str, config: dict[str, str]) -> str:
    objects = [text for key, text in SEPARATE.items() if name == "default" or config.get(key) == "true"]
    return f"with its own {', '.join(objects)}" if objects else "without objects of its own"


def _shared(context: CheckContext, config: dict[str, str]) -> Iterator[CheckResult]:
    name = context.server.project_name
    for key in REQUIRED_SEPARATE:
        if name != "default" and config.get(key) != "true":
            message = f"{name} shares its {SEPARATE[key]} with project default and other projects"
            yield context.warn("project", message, "shared_with_default", key=key)


def _restrictions(context: CheckContext, features: Features, config: dict[str, str]) -> Iterator[CheckResult]:
    if config.get("restricted") != "true":
        return
    for restriction in _relevant_restrictions(context, features):
        if config.get(restriction.key, restriction.default) in restriction.blocking:
            message = f"{context.server.project_name} is restricted and does not allow {restriction.subject}"
            yield context.fail("project", message, "project_setting", key=restriction.key, value=restriction.required)


def _relevant_restrictions(context: CheckContext, features: Features) -> Iterator[Restriction]:
    options = (boot_options(context, features, line) for line in STEMCELL_LINES)
    if any(key.startswith("raw.") for keys in options for key in keys):
        yield LOW_LEVEL
    if context.server.target and features.is_clustered:
        yield TARGET
    yield from RESTRICTIONS


def _limits(context: CheckContext, config: dict[str, str]) -> Iterator[CheckResult]:
    if not any(f"limits.{name}" in config for name in LIMITS):
        return
    resources = context.client().project_state()["resources"]
    for name in LIMITS:
        limit, usage = resources[name]["Limit"], resources[name]["Usage"]
        if 0 <= limit <= usage:
            key = f"limits.{name}"
            message = f"{context.server.project_name} is full: {key} is {config[key]}, and all of it is used"
            yield context.fail("project", message, "project_limit", key=key)


def profile(context: CheckContext) -> Iterator[CheckResult]:
    """Check that the profile exists, and that its devices and options suit VMs of BOSH, if the project exists."""
    name, project_name = context.server.profile_name, context.server.project_name
    if project_name not in context.projects:
        return
    profiles = {profile.name: profile for profile in context.client().profiles()}
    if name not in profiles:
        yield context.fail("profile", f"there is no profile {name} in project {project_name}", "create_profile")
        return
    devices, config = profiles[name].devices, profiles[name].config
    problems = [*_profile_devices(context, devices), *_profile_options(context, config)]
    yield from problems or [context.ok("profile", f"{name}, devices: {', '.join(sorted(devices)) or 'none'}")]


def _profile_devices(context: CheckContext, devices: dict[str, dict[str, str]]) -> Iterator[CheckResult]:
    """Warn of devices that a VM gets in addition to those of the CPI. Devices with the CPI's names are replaced."""
    for device, options in sorted(devices.items()):
        if options.get("type") == "nic" and device != FIRST_NIC:
            message = f"every VM gets the NIC {device}, besides those of its BOSH networks"
            yield context.warn("profile", message, "profile_device", device=device)
        elif options.get("path") == "/" and device != naming.ROOT_DEVICE:
            message = f"its root disk is {device}, not {naming.ROOT_DEVICE}, so create_vm sends a second request"
            yield context.warn("profile", message, "profile_device", device=device)


def _profile_options(context: CheckContext, config: dict[str, str]) -> Iterator[CheckResult]:
    for key, problem in UNSUITABLE_OPTIONS.items():
        if config.get(key) == "true":
            yield context.fail("profile", f"with {key}, {problem}", "profile_option", key=key)


def leftovers(context: CheckContext) -> Iterator[CheckResult]:
    """Count what bin/cleanup would remove, and the persistent disks without a VM, which it keeps.

    Yields nothing without project or pool.
    """
    if not context.has_pool or context.server.project_name not in context.projects:
        return
    stock = inventory.read(context.client(), context.server.storage_pool_name)
    policy = prune.Policy(director=prune.ALL, min_age=MIN_AGE_SECONDS, remove_legacy=False, now=context.clock.time())
    unused = [resource for resource in stock.resources if not policy.skip_reason(resource)]
    director = owner.director_of_this_machine(context.config, stock.directors)
    own = sum(resource.director == director for resource in unused)
    others, total = len(unused) - own, len(stock.resources)
    orphans = sum(resource.state == inventory.ORPHAN for resource in stock.resources)
    if own:
        yield context.warn("leftovers", f"{own} of {total} resources are unused", "leftovers")
    if others:
        message = f"{others} of {total} resources are unused and may belong to other directors"
        yield context.warn("leftovers", message, "leftovers_of_others")
    if orphans:
        yield context.warn("orphans", f"{count(orphans, 'persistent disk')} without a VM", "orphans")
    for failure in stock.failures:
        yield context.error("leftovers", failure)._replace(status=WARN)
    if not unused and not orphans and not stock.failures:
        yield context.ok("leftovers", f"none of {total} BOSH resources is unused")
