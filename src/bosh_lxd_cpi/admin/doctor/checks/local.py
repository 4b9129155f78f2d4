"""What needs no server: the configuration, and the directory where the calls of this machine meet."""

from __future__ import annotations

import fcntl
import os
import pathlib
import pwd
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import FAIL, CheckResult
from bosh_lxd_cpi.guest.config_drive import drive
from bosh_lxd_cpi.lxd.transport import HttpTransport
from bosh_lxd_cpi.runtime import throttle

REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs")
DIRECTOR = "/var/vcap/jobs/director"
SHARED = (
    "/var/vcap/data/director",
    "/var/vcap/store/director",
    "/var/vcap/sys/log/director",
    "/var/vcap/sys/log/lxd_cpi",
)
"""What a worker under BPM sees and may write to, without further configuration (facts: bosh-contract 1.7)."""
WORKER = "vcap"
CONNECTING = ("server.url", "server.tls_")
"""Faults in these properties leave nothing to connect with."""


def configuration(
    patient: CheckContext, file: str, *, faults: Iterable[str], unknown: Iterable[str]
) -> Iterator[CheckResult]:
    """One finding a fault. Gives the patient its transport, if that can be made."""
    found = [patient.fail("configuration", fault, "bad_property", file=file) for fault in faults]
    found += [
        patient.warn("configuration", text.removeprefix(f"{file}: "), "unknown_property", file=file) for text in unknown
    ]
    if not any(finding.found.startswith(CONNECTING) for finding in found if finding.status == FAIL):
        try:
            patient.transport = HttpTransport(patient.server)
        except errors.ConfigError as failure:
            found.append(patient.fail("configuration", failure.message, "bad_property", file=file))
    try:
        drive.configured({}, patient.settings.agent_config)
    except errors.ConfigError as failure:
        found.append(patient.fail("configuration", failure.message, "bad_property", file=file))
    yield from found or [patient.ok("configuration", file)]


def locks(patient: CheckContext) -> Iterator[CheckResult]:
    """Whether the calls can lock each other out. create_vm and bin/cleanup need that also without the throttle."""
    path, wanted = patient.settings.lock_directory(), patient.settings.throttle_config
    if reason := unusable(path):
        yield patient.fail("lock directory", f"{path}: {reason}", "no_lock_directory")
        return
    try:
        held = len(throttle.holders(path))
    except OSError as failure:
        yield patient.fail("lock directory", f"{path}: {failure}", "no_lock_directory")
        return
    slots = f"{held} of {wanted.limit} throttle slots held" if wanted.enabled else "the throttle is off"
    kind = file_system(path)
    if kind in REMOTE:
        yield patient.warn("lock directory", f"{path} is on {kind}", "remote_lock_directory")
    elif pathlib.Path(DIRECTOR).is_dir() and not all(_within(path, [*SHARED, *own]) for own in _volumes_of_workers()):
        yield patient.warn(
            "lock directory", f"{path}: workers under BPM don't see it", "hidden_lock_directory", path=path
        )
    else:
        yield patient.ok("lock directory", f"{path}; {slots}")


def _volumes_of_workers() -> list[list[str]]:
    """For each of the director's workers under BPM, the directories that it was given to write to beside SHARED.

    Where BPM's configuration cannot be read, as if there were one worker under it, and nothing given to it.
    """
    import yaml

    try:
        with pathlib.Path(os.path.join(DIRECTOR, "config/bpm.yml")).open(encoding="utf-8") as file:
            processes = yaml.safe_load(file)["processes"]
        return [
            [
                volume["path"]
                for volume in process.get("unsafe", {}).get("unrestricted_volumes", [])
                + process.get("additional_volumes", [])
                if volume.get("writable")
            ]
            for process in processes
            if os.path.basename(process["executable"]) == "worker"
        ]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return [[]]


def _within(path: str, directories: Iterable[str]) -> bool:
    path = os.path.realpath(path)
    return any(os.path.commonpath([path, top]) == top for top in map(os.path.realpath, directories))


def unusable(path: str) -> str:
    """Why nobody can take a lock in a directory, which may have to be made first; empty when we can.

    root can everywhere; so for root it is looked whether the director's workers can, if there are any.
    """
    while not os.path.lexists(path):
        path = os.path.dirname(os.path.abspath(path))
    if not pathlib.Path(path).is_dir():
        return f"{path} is no directory"
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        return failure.strerror or str(failure)
    if os.geteuid() == 0 and pathlib.Path(DIRECTOR).is_dir() and not _may_write(os.stat(path), pwd.getpwnam(WORKER)):
        return f"{WORKER}, who runs the director's workers, may not write there"
    return ""


def _may_write(place: os.stat_result, user: pwd.struct_passwd) -> bool:
    if place.st_uid == user.pw_uid:
        return bool(place.st_mode & stat.S_IWUSR)
    return bool(place.st_mode & (stat.S_IWGRP if place.st_gid == user.pw_gid else stat.S_IWOTH))


def file_system(path: str) -> str:
    """The type of the file system that a path is or will be on; empty when the kernel does not say."""
    path, best = os.path.realpath(path), ("", "")
    try:
        with pathlib.Path("/proc/self/mountinfo").open(encoding="utf-8") as file:
            for line in file:
                mount, _, rest = line.partition(" - ")
                point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), mount.split()[4])
                if len(point) >= len(best[0]) and (path + "/").startswith(point.rstrip("/") + "/"):
                    best = (point, rest.split()[0])
    except OSError:
        pass
    return best[1]
