"""Fixtures derived from recorded ones: for servers that the test host does not have, and faults that none gives.

Each is a row of TABLE: the recording it comes from, what is changed in the server's answers, and how that is known.
What is asked of the changed answers is what the CPI asks when it gets them. bin/record derives them anew.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from bosh_lxd_cpi.admin import replay
from bosh_lxd_cpi.recording.player import Mismatch, Player, ReplayClock, request_line
from tests.replay.response_changes import (
    BAD_GATEWAY,
    LXD_68_TEXTS,
    POOL_VOLUMES,
    Call,
    Change,
    Exchange,
    agent_not_running,
    error_response,
    insert_responses,
    lxd,
    no_space,
    operation_cancelled,
    operation_not_found,
    operations_have_entity_url,
    precondition_failed,
    project_exists,
    response_lost_and_name_taken,
    response_lost_while_operation_runs,
    server_unreachable,
    snapshot_delete_fails_with_500,
    snapshot_operation_fails,
    volume_changes_are_operations,
    wait_times_out_with_error,
    wait_times_out_with_state,
)


class Row(NamedTuple):
    """One derived fixture."""

    server: str
    scenario: str
    base: str
    """Server and scenario of the recording, and after # the number of the one call to take, else all."""
    change: str
    source: str
    changes: tuple[Change, ...]


LXD_521 = "LXD 5.21 in name, version and texts; ISO volumes, start in create and security.csm are as recorded"
FACTS_521 = (
    "canonical/lxd stable-5.21: shared/version/api.go (custom_volume_iso, instance_create_start, security_csm)"
    "; seen on LXD 5.21.7"
)
ASYNC = "every change of a volume or its snapshot is an operation"
FACTS_66 = "canonical/lxd lxd-6.6: extension storage_and_profile_operations, lxd/storage_volumes.go"
LXD_69 = (
    f"extension instance_boot_mode, which removed security.csm and security.secureboot; {ASYNC}; "
    "operations name one object, in their metadata"
)
FACTS_69 = "canonical/lxd lxd-6.9: shared/version/api.go, lxd/operations/operations.go; seen on LXD 6.9"
WAIT = "operationWaitGet in lxd/operations.go (LXD 5.0.3 on) and cmd/incusd/operations.go (before 6.0.5 and 6.12)"
WAIT_SYNC = "operationWaitGet in cmd/incusd/operations.go (6.0.5 and 6.12 on) and lxd/operations.go (LXD 5.0.2)"
AGENT = "LXD 5.20 to 5.21.2 and 6.1: lxd/instance/drivers/driver_qemu.go, the event to the guest after an update"
BROKEN = "a connection that breaks after the request"

V521, V66 = lxd("5.21.7"), lxd("6.6", "storage_and_profile_operations")
V69 = lxd("6.9", "storage_and_profile_operations", "instance_boot_mode", texts=LXD_68_TEXTS)

TABLE = (
    Row("lxd-5.21", "vm", "incus/vm", LXD_521, FACTS_521, (V521, project_exists)),
    Row("lxd-5.21", "vm_by_uefi", "incus/vm_by_uefi", LXD_521, FACTS_521, (V521,)),
    Row("lxd-5.21", "vm_refused", "incus/vm_refused", LXD_521, f"{FACTS_521}; {WAIT}", (V521,)),
    Row(
        "lxd-5.21",
        "disk_attached",
        "incus/disk_attached",
        "attaching works, and is refused because no agent runs",
        AGENT,
        (lxd("5.21.2"), agent_not_running),
    ),
    Row(
        "lxd-5.21",
        "snapshot_missing",
        "incus/disk_snapshots#3",
        "the operation that is to delete it fails",
        f"lxd/storage_volumes_snapshot.go; {WAIT}; seen on LXD 5.21.7",
        (V521, snapshot_operation_fails),
    ),
    Row("lxd-6.6", "disk", "incus/disk", ASYNC, FACTS_66, (V66, volume_changes_are_operations)),
    Row("lxd-6.6", "disk_snapshots", "incus/disk_snapshots#0", ASYNC, FACTS_66, (V66, volume_changes_are_operations)),
    Row(
        "lxd-6.9",
        "vm",
        "incus/vm",
        LXD_69,
        FACTS_69,
        (V69, project_exists, volume_changes_are_operations, operations_have_entity_url),
    ),
    Row(
        "lxd-6.9",
        "vm_by_uefi",
        "incus/vm_by_uefi",
        LXD_69,
        FACTS_69,
        (V69, volume_changes_are_operations, operations_have_entity_url),
    ),
    Row(
        "lxd-6.9",
        "vm_refused",
        "incus/vm_refused",
        LXD_69,
        FACTS_69,
        (V69, volume_changes_are_operations, operations_have_entity_url),
    ),
    Row(
        "lxd-6.9",
        "response_lost_while_operation_runs",
        "incus/vm#0",
        "no answer to the creation; the list of operations shows it in an operation's metadata",
        FACTS_69,
        (V69, volume_changes_are_operations, response_lost_while_operation_runs, operations_have_entity_url),
    ),
    Row(
        "lxd-6.9",
        "snapshot_missing",
        "incus/disk_snapshots#3",
        "HTTP 500: no operation for what there is not",
        FACTS_69,
        (V69, snapshot_delete_fails_with_500),
    ),
    Row(
        "faults",
        "wait_times_out_with_error",
        "incus/vm#0",
        "the first wait ends after 30 s with an error under HTTP 200",
        WAIT,
        (wait_times_out_with_error,),
    ),
    Row(
        "faults",
        "wait_times_out_with_state",
        "incus7/vm#0",
        "the first wait ends after 30 s, state Running",
        WAIT_SYNC,
        (wait_times_out_with_state,),
    ),
    Row(
        "faults",
        "operation_not_found",
        "incus/vm#0",
        "the operation is not found, the instance runs",
        "operations are forgotten five seconds after their end, and with a restart",
        (operation_not_found,),
    ),
    Row(
        "faults",
        "operation_cancelled",
        "incus/vm#0",
        "the operation ends as Cancelled, without a text",
        "shared/api/status_code.go: 401",
        (operation_cancelled,),
    ),
    Row(
        "faults",
        "response_lost_while_operation_runs",
        "incus/vm#0",
        "no answer to the creation; the list of operations shows it",
        BROKEN,
        (response_lost_while_operation_runs,),
    ),
    Row(
        "faults",
        "response_lost_and_name_taken",
        "incus/disk#0",
        "no answer; the volume is not there, then its name is taken, then it is there",
        BROKEN,
        (response_lost_and_name_taken,),
    ),
    Row(
        "faults",
        "precondition_failed",
        "incus/disk_attached#0",
        "the first PATCH is refused with HTTP 412",
        "util.EtagCheck",
        (precondition_failed,),
    ),
    Row(
        "faults",
        "database_locked",
        "incus/disk#0",
        "the first POST is refused with HTTP 500, database is locked",
        "internal/server/db/query/retry.go",
        (insert_responses("POST", POOL_VOLUMES, error_response("database is locked", 500)),),
    ),
    Row(
        "faults",
        "server_starting",
        "incus/vm#1",
        "twice HTTP 503 before the answer",
        "cmd/incusd/daemon.go",
        (insert_responses("GET", "/instances/", *[error_response("Daemon is starting up", 503)] * 2),),
    ),
    Row(
        "faults",
        "no_space",
        "incus/disk#0",
        "the volume cannot be made: no space left on device",
        "errno ENOSPC",
        (no_space,),
    ),
    Row(
        "faults",
        "server_unreachable",
        "incus/vm#1",
        "every connection is refused",
        "a stopped daemon",
        (server_unreachable,),
    ),
    Row(
        "faults",
        "proxy_responds_502",
        "incus/vm#1",
        "HTTP 502 with HTML before the answer",
        "any reverse proxy",
        (insert_responses("GET", "/instances/", BAD_GATEWAY),),
    ),
)


class Deriving(Player):
    """Gives the changed answers in their order, and keeps what was asked for them."""

    def __init__(self, interactions: list[Exchange], clock: ReplayClock) -> None:
        super().__init__(interactions, clock)
        self.kept: list[Exchange] = []

    def _play(self, asked: Exchange) -> Exchange:
        if self._next == len(self.interactions):
            raise Mismatch(f"asked beyond the changed answers: {request_line(asked)}")
        given = self.interactions[self._next]
        if request_line(asked) != request_line(given["request"]):
            raise Mismatch(
                f"asked {request_line(asked)}, where the changed answers have {request_line(given['request'])}"
            )
        self._next += not given.get("repeat")
        outcome = {key: given[key] for key in ("response", "error") if key in given}
        self.kept.append(
            {
                "n": len(self.kept) + 1,
                "t_ms": round(self._clock.monotonic() * 1000),
                "ms": given["ms"],
                "request": asked,
                **outcome,
            }
        )
        return self.kept[-1]


def derive(row: Row, base: dict[str, Any]) -> dict[str, Any]:
    """The fixture that a row makes of its base. Raises Mismatch if the CPI does not ask for all the changed answers."""
    path, mark, number = row.base.partition("#")
    calls = copy.deepcopy([base["calls"][int(number)]] if number else base["calls"])
    return {
        "format": base["format"],
        "scenario": row.scenario,
        "recorded": base["recorded"],
        "synthetic": {"base": f"{path}.json{mark}{number}", "change": row.change, "source": row.source},
        "calls": [_derived(call, row) for call in calls],
    }


def _derived(call: Call, row: Row) -> Call:
    for change in row.changes:
        change(call)
    clock = ReplayClock(**call["clock"])
    player = Deriving(call["interactions"], clock)
    answer, _ = replay.run(call, clock, player)
    left = [one for one in call["interactions"][player._next :] if not one.get("repeat")]
    if left:
        raise Mismatch(f"not asked for: {request_line(left[0]['request'])}; the answer is {answer}")
    return {**call, "stdout": answer, "duration_ms": round(clock.monotonic() * 1000), "interactions": player.kept}
