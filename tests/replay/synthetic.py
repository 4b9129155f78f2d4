"""Fixtures derived from recordings, for servers that test hosts do not have, and for faults.

Each row of TABLE names a recording, the change of the server's responses, and the source for the change. The requests
of a derived fixture are those that the CPI sends for the changed responses. `bin/record --derive` writes them.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from bosh_lxd_cpi.admin import replay
from bosh_lxd_cpi.recording.player import Mismatch, Player, ReplayClock, request_line
from tests.replay.response_changes import (
    BAD_GATEWAY,
    LXD_68_MESSAGES,
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
    """Server and scenario of the recording, and after # the number of a call if only that call is used."""
    change: str
    source: str
    changes: tuple[Change, ...]


LXD_521 = (
    "LXD 5.21 in name, version and error messages; the responses to ISO volumes, start in create and security.csm are"
    " as recorded"
)
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
V69 = lxd("6.9", "storage_and_profile_operations", "instance_boot_mode", messages=LXD_68_MESSAGES)

TABLE = (
    Row("lxd-5.21", "vm", "incus/vm", LXD_521, FACTS_521, (V521,)),
    Row("lxd-5.21", "vm_by_uefi", "incus/vm_by_uefi", LXD_521, FACTS_521, (V521,)),
    Row("lxd-5.21", "vm_refused", "incus/vm_refused", LXD_521, f"{FACTS_521}; {WAIT}", (V521,)),
    Row(
        "lxd-5.21",
        "disk_attached",
        "incus/disk_attached",
        "the PATCH that attaches the disk succeeds, but returns an error because no agent runs",
        AGENT,
        (lxd("5.21.2"), agent_not_running),
    ),
    Row(
        "lxd-5.21",
        "snapshot_missing",
        "incus/disk_snapshots#3",
        "the operation that deletes the snapshot fails",
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
        (V69, volume_changes_are_operations, operations_have_entity_url),
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
        "no response to the creation; the list of operations contains it, with the instance in its metadata",
        FACTS_69,
        (V69, volume_changes_are_operations, response_lost_while_operation_runs, operations_have_entity_url),
    ),
    Row(
        "lxd-6.9",
        "snapshot_missing",
        "incus/disk_snapshots#3",
        "HTTP 500 instead of an operation, because the snapshot does not exist",
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
        "the operation is not found; the instance exists, is deleted and created again",
        "operations are removed five seconds after their end, and by a restart",
        (operation_not_found,),
    ),
    Row(
        "faults",
        "operation_cancelled",
        "incus/vm#0",
        "the operation ends as Cancelled, without an error message",
        "shared/api/status_code.go: 401",
        (operation_cancelled,),
    ),
    Row(
        "faults",
        "response_lost_while_operation_runs",
        "incus/vm#0",
        "no response to the creation; the list of operations contains it",
        BROKEN,
        (response_lost_while_operation_runs,),
    ),
    Row(
        "faults",
        "response_lost_and_name_taken",
        "incus/vm#0",
        "no response; the instance is missing, then its name is taken by an operation, which succeeds",
        BROKEN,
        (response_lost_and_name_taken,),
    ),
    Row(
        "faults",
        "precondition_failed",
        "incus/disk_attached#0",
        "the first PATCH fails with HTTP 412",
        "util.EtagCheck",
        (precondition_failed,),
    ),
    Row(
        "faults",
        "database_locked",
        "incus/disk#0",
        "the first POST fails with HTTP 500, database is locked",
        "internal/server/db/query/retry.go",
        (insert_responses("POST", POOL_VOLUMES, error_response("database is locked", 500)),),
    ),
    Row(
        "faults",
        "server_starting",
        "incus/vm#1",
        "two responses with HTTP 503 before the recorded one",
        "cmd/incusd/daemon.go",
        (insert_responses("GET", "/instances/", *[error_response("Daemon is starting up", 503)] * 2),),
    ),
    Row(
        "faults",
        "no_space",
        "incus/disk#0",
        "the volume cannot be created: no space left on device",
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
        "HTTP 502 with HTML before the recorded response",
        "any reverse proxy",
        (insert_responses("GET", "/instances/", BAD_GATEWAY),),
    ),
)


class DerivingPlayer(Player):
    """Returns the changed responses in their order, and records the requests for them."""

    def __init__(self, interactions: list[Exchange], clock: ReplayClock) -> None:
        super().__init__(interactions, clock)
        self.derived: list[Exchange] = []

    def _play(self, request: Exchange) -> Exchange:
        if self._next == len(self.interactions):
            raise Mismatch(f"request after the last response: {request_line(request)}")
        expected = self.interactions[self._next]
        if request_line(request) != request_line(expected["request"]):
            raise Mismatch(
                f"request {request_line(request)}, but the next response is for {request_line(expected['request'])}"
            )
        self._next += not expected.get("repeat")
        outcome = {key: expected[key] for key in ("response", "error") if key in expected}
        self.derived.append(
            {
                "n": len(self.derived) + 1,
                "t_ms": round(self._clock.monotonic() * 1000),
                "ms": expected["ms"],
                "request": request,
                **outcome,
            }
        )
        return self.derived[-1]


def derive(row: Row, base: dict[str, Any]) -> dict[str, Any]:
    """Return the fixture that a row derives from its base. Raises Mismatch if a changed response is not requested."""
    path, mark, number = row.base.partition("#")
    calls = copy.deepcopy([base["calls"][int(number)]] if number else base["calls"])
    return {
        "format": base["format"],
        "scenario": row.scenario,
        "recorded": base["recorded"],
        "synthetic": {"base": f"{path}.json{mark}{number}", "change": row.change, "source": row.source},
        "calls": [_derive_call(call, row) for call in calls],
    }


def _derive_call(call: Call, row: Row) -> Call:
    for change in row.changes:
        change(call)
    clock = ReplayClock(**call["clock"])
    player = DerivingPlayer(call["interactions"], clock)
    response, _ = replay.run(call, clock, player)
    remaining = [interaction for interaction in call["interactions"][player._next :] if not interaction.get("repeat")]
    if remaining:
        raise Mismatch(f"not requested: {request_line(remaining[0]['request'])}; the response is {response}")
    return {**call, "stdout": response, "duration_ms": round(clock.monotonic() * 1000), "interactions": player.derived}
