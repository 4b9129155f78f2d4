"""What the server is and can do."""

from __future__ import annotations

from collections.abc import Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.guest import firmware
from bosh_lxd_cpi.lxd.features import Features

NAMES = {"lxd": "LXD", "incus": "Incus"}
DRIVES = ("custom_volume_iso", "custom_volume_backup")
"""API extensions, one of which a config drive needs (facts: lxd-api 5)."""
NO_VMS = "Instance type not operational"
"""The type of the server's warning that says why."""
LINES = ("jammy", "noble")


def server(patient: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Kind, version and what depends on them."""
    kind, version = features.kind, f"{NAMES.get(features.kind, features.kind)} {features.version}"
    if patient.server.type and patient.server.type != kind:
        yield patient.warn("server", f"{version}, but server.type says {patient.server.type}", "wrong_type", kind=kind)
    elif not set(DRIVES) & set(patient.metadata["api_extensions"]):
        yield patient.fail("server", f"{version} can take no config drive", "too_old")
    else:
        yield patient.ok("server", f"{version}, {'a cluster' if features.clustered else 'one machine'}")
    yield patient.ok(
        "features",
        ", ".join(
            [
                "config drive as ISO volume" if features.iso_volumes else "no ISO volumes: config drive as a disk",
                "made and started in one request" if features.start_on_create else "started by a second request",
                f"firmware by {features.firmware}",
            ]
        ),
    )


def virtual_machines(patient: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Whether it can run them; if not, its own warning says why, unless only its administrator may read that."""
    if features.virtual_machines:
        environment = patient.metadata["environment"]
        drivers, versions = (environment.get(key, "").split(" | ") for key in ("driver", "driver_version"))
        qemu = dict(zip(drivers, versions, strict=False)).get("qemu", "")
        yield patient.ok("virtual machines", f"possible, with QEMU {qemu}")
        return
    try:
        why = [
            warning["last_message"]
            for warning in patient.client().warnings().metadata
            if warning["type"] == NO_VMS and warning["status"] == "new"
        ]
    except errors.ServerError:
        why = []
    yield patient.fail("virtual machines", f"not possible: {'; '.join(why) or 'the server does not say why'}", "no_vms")


def cluster(patient: CheckContext, features: Features) -> Iterator[CheckResult]:
    """Members, and the one that VMs are sent to."""
    if not features.clustered:
        return
    try:
        members = patient.client().cluster_members().metadata
    except errors.ServerError:
        return  # a restricted certificate may not see them
    names = [member["server_name"] for member in members]
    target = patient.server.target
    if target and not target.startswith("@") and target not in names:
        yield patient.fail("cluster", f"server.target {target} is none of {', '.join(names)}", "no_target")
    elif away := [member["server_name"] for member in members if member["status"] != "Online"]:
        yield patient.warn("cluster", f"not online: {', '.join(away)}", "member_offline")
    else:
        yield patient.ok("cluster", f"{len(names)} members online: {', '.join(names)}")


def boot(patient: CheckContext, features: Features) -> Iterator[CheckResult]:
    """The instance options by which stemcells of each line will boot here."""
    for line in LINES:
        options = sorted(boot_options(patient, features, line).items())
        yield patient.ok(f"firmware {line}", " ".join(f"{key}={value}" for key, value in options) or "the server's own")


def boot_options(patient: CheckContext, features: Features, line: str) -> dict[str, str]:
    """Instance options for stemcells of a line."""
    return firmware.config(f"ubuntu-{line}", dialect=features.firmware, overrides=patient.server.instance_config)
