"""Checks the server: kind, version, virtual machines, CPUs and firmware."""

from __future__ import annotations

from collections.abc import Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.guest import firmware
from bosh_lxd_cpi.lxd.features import Features

PRODUCTS = {"lxd": "LXD", "incus": "Incus"}
CONFIG_DRIVE_EXTENSIONS = {"custom_volume_iso", "custom_volume_backup"}
"""A config drive needs one of these API extensions (docs/development/lxd-api.md §5)."""
NO_VIRTUAL_MACHINES = "Instance type not operational"
"""The type of the server's warning that holds the reason."""
STEMCELL_LINES = ("jammy", "noble")


def server(context: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Check kind and version, and show what the CPI does differently for this server."""
    version = f"{PRODUCTS.get(features.kind, features.kind)} {features.version}"
    configured = context.server.type
    if configured and configured != features.kind:
        yield context.warn("server", f"{version}, but server.type is {configured}", "wrong_type", server=features.kind)
    elif not CONFIG_DRIVE_EXTENSIONS & set(context.server_info.api_extensions):
        yield context.fail("server", f"{version} does not support config drives", "too_old")
    else:
        yield context.ok("server", f"{version}, {'a cluster' if features.is_clustered else 'a single server'}")
    descriptions = (
        "config drive as ISO volume" if features.has_iso_volumes else "no ISO volumes: config drive as a disk",
        "creates and starts in one request" if features.starts_on_create else "starts by a second request",
        f"firmware by {features.firmware}",
    )
    yield context.ok("features", ", ".join(descriptions))


def virtual_machines(context: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Check whether the server can run virtual machines. The reason is in a warning that only administrators see."""
    if features.has_virtual_machines:
        environment = context.server_info.environment
        drivers, versions = (str(environment.get(key, "")).split(" | ") for key in ("driver", "driver_version"))
        version = dict(zip(drivers, versions, strict=False)).get("qemu", "")
        yield context.ok("virtual machines", f"supported, with QEMU {version}")
        return
    try:
        reasons = [
            str(warning.get("last_message", ""))
            for warning in context.client().warnings()
            if warning.get("type") == NO_VIRTUAL_MACHINES and warning.get("status") == "new"
        ]
    except errors.ServerError:
        reasons = []
    reason = "; ".join(reasons) or "the server shows no reason"
    yield context.fail("virtual machines", f"not supported: {reason}", "no_vms")


def cpu(context: CheckContext, number: int | None) -> Iterator[CheckResult]:
    """Check that the server has the number of CPUs of the largest VM. Without a number, this yields nothing."""
    if number is None:
        return
    try:
        total = context.client().server_resources()["cpu"]["total"]
    except errors.Forbidden:
        yield context.skip("cpu", "the server hides its CPUs from this client", "hidden", command="info --resources")
        return
    if number > total:
        yield context.fail("cpu", f"{number} CPUs are more than the server's {total}", "too_many_cpus")
    else:
        yield context.ok("cpu", f"the server has {total} CPUs")


def boot(context: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Show the instance options for the firmware of each stemcell line."""
    for line in STEMCELL_LINES:
        options = sorted(boot_options(context, features, line).items())
        text = " ".join(f"{key}={value}" for key, value in options)
        yield context.ok(f"firmware {line}", text or "the server's default")


def boot_options(context: CheckContext, features: Features, line: str) -> dict[str, str]:
    """Return the instance options for the firmware of a stemcell line."""
    return firmware.config(f"ubuntu-{line}", dialect=features.firmware, overrides=context.server.instance_config)
