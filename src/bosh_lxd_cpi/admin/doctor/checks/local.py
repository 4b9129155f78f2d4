"""Checks that need no server: the configuration, and the directory of the locks."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin.doctor.context import CheckContext
from bosh_lxd_cpi.admin.doctor.result import CheckResult
from bosh_lxd_cpi.admin.output import FAIL
from bosh_lxd_cpi.guest.config_drive import drive
from bosh_lxd_cpi.runtime import lock_files, throttle

REMOTE_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs")
DIRECTOR_JOB = "/var/vcap/jobs/director"
SHARED_DIRECTORIES = (
    "/var/vcap/data/director",
    "/var/vcap/store/director",
    "/var/vcap/sys/log/director",
    "/var/vcap/sys/log/lxd_cpi",
)
"""What a director's worker under BPM can write to by default (docs/development/bosh-contract.md §1)."""
WORKER_USER = "vcap"
CONNECTION_PROPERTIES = ("server.url", "server.tls_")
"""Without a valid value of these properties there is no connection."""


def configuration(
    context: CheckContext, file: str, *, faults: Iterable[str], unknown: Iterable[str]
) -> Iterator[CheckResult]:
    """Check the configuration: one result for each invalid or unknown property. Connects the context if possible."""
    check = "configuration"
    results = [context.fail(check, fault, "bad_property", file=file) for fault in faults]
    results += [context.warn(check, text.removeprefix(f"{file}: "), "unknown_property", file=file) for text in unknown]
    failures = [result.message for result in results if result.status == FAIL]
    if not any(message.startswith(CONNECTION_PROPERTIES) for message in failures):
        try:
            context.connect()
        except errors.ConfigError as failure:
            results.append(_config_error(context, failure, file))
    try:
        drive.build({}, context.config.agent_config)
    except errors.ConfigError as failure:
        results.append(_config_error(context, failure, file))
    yield from results or [context.ok(check, file)]


def _config_error(context: CheckContext, failure: errors.ConfigError, file: str) -> CheckResult:
    if failure.code:
        return context.error("configuration", failure)
    return context.fail("configuration", failure.brief, "bad_property", file=file)


def locks(context: CheckContext) -> Iterator[CheckResult]:
    """Check whether calls can use the lock directory. create_vm and bin/cleanup need it also without the throttle."""
    check, path, throttle_config = "lock directory", context.config.lock_directory(), context.config.throttle_config
    if reason := unusable_reason(path):
        yield context.fail(check, f"{path}: {reason}", "no_lock_directory")
        return
    try:
        held = len(throttle.holders(path))
    except OSError as failure:
        yield context.fail(check, f"{path}: {failure}", "no_lock_directory")
        return
    slots = (
        f"{held} of {throttle_config.limit} throttle slots held" if throttle_config.enabled else "the throttle is off"
    )
    kind = file_system(path)
    if kind in REMOTE_FILE_SYSTEMS:
        yield context.warn(check, f"{path} is on {kind}", "remote_lock_directory")
    elif Path(DIRECTOR_JOB).is_dir() and not _is_visible_to_workers(path):
        yield context.warn(check, f"workers under BPM cannot see {path}", "hidden_lock_directory", path=path)
    else:
        yield context.ok(check, f"{path}; {slots}")


def _is_visible_to_workers(path: str) -> bool:
    return all(_is_within(path, [*SHARED_DIRECTORIES, *volumes]) for volumes in _worker_volumes())


def _worker_volumes() -> list[list[str]]:
    """Return, for each of the director's workers under BPM, its writable directories besides SHARED_DIRECTORIES.

    If BPM's configuration cannot be read, this returns one worker without any, so that the check warns.
    """
    import yaml

    try:
        text = (Path(DIRECTOR_JOB) / "config/bpm.yml").read_text(encoding="utf-8")
        return [
            [
                volume["path"]
                for volume in process.get("unsafe", {}).get("unrestricted_volumes", [])
                + process.get("additional_volumes", [])
                if volume.get("writable")
            ]
            for process in yaml.safe_load(text)["processes"]
            if Path(process["executable"]).name == "worker"
        ]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return [[]]


def _is_within(path: str, directories: Iterable[str]) -> bool:
    path = os.path.realpath(path)
    return any(os.path.commonpath([path, top]) == top for top in map(os.path.realpath, directories))


def unusable_reason(path: str) -> str:
    """Return why this process cannot take a lock in a directory, which may not exist yet. Return "" if it can.

    root can write everywhere. So for root this checks whether the director's workers can, if there is a director.
    """
    directory = Path(path).absolute()
    while not os.path.lexists(directory):
        directory = directory.parent
    if not directory.is_dir():
        return f"{directory} is not a directory"
    try:
        if directory == Path(path).absolute():
            lock_files.check_directory(path)
        with tempfile.TemporaryFile(dir=directory) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        return failure.strerror or str(failure)
    is_director = os.geteuid() == 0 and Path(DIRECTOR_JOB).is_dir()
    if is_director and not _may_write(directory.stat(), pwd.getpwnam(WORKER_USER)):
        return f"{WORKER_USER}, the user of the director's workers, may not write there"
    return ""


def _may_write(directory: os.stat_result, user: pwd.struct_passwd) -> bool:
    if directory.st_uid == user.pw_uid:
        return bool(directory.st_mode & stat.S_IWUSR)
    return bool(directory.st_mode & (stat.S_IWGRP if directory.st_gid == user.pw_gid else stat.S_IWOTH))


def file_system(path: str) -> str:
    """Return the type of the file system that holds a path, which may not exist yet, or "" if it is unknown."""
    path, longest, kind = os.path.realpath(path), "", ""
    try:
        with Path("/proc/self/mountinfo").open(encoding="utf-8") as file:
            for line in file:
                mount, _, details = line.partition(" - ")
                point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), mount.split()[4])
                if len(point) >= len(longest) and f"{path}/".startswith(point.rstrip("/") + "/"):
                    longest, kind = point, details.split()[0]
    except OSError:
        pass
    return kind
