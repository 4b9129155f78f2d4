"""The derived fixtures: their number, their derivation, and the requests of the CPI in them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.replay import fixtures, response_changes, synthetic

NAMES = [f"{row.server}/{row.scenario}" for row in synthetic.TABLE]


def requests(server, scenario, method, part):
    return [
        interaction["request"]
        for call in fixtures.load(server, scenario)["calls"]
        for interaction in call["interactions"]
        if interaction["request"]["method"] == method and part in interaction["request"]["path"]
    ]


def test_number_of_derived_fixtures():
    counts = Counter(
        path.parent.name for path in fixtures.paths() if fixtures.load(path.parent.name, path.stem)["synthetic"]
    )
    assert counts == {"lxd-5.21": 5, "lxd-6.6": 2, "lxd-6.9": 5, "faults": 12}
    recorded = len(fixtures.paths()) - sum(counts.values())
    assert recorded >= 3 * sum(counts.values())


def test_documentation_lists_derived_fixtures():
    page = (fixtures.DIRECTORY.parents[1] / "docs/how-to/capture.md").read_text(encoding="utf-8")
    for row in synthetic.TABLE:
        assert f"| {row.server} | {row.scenario} | {row.base} | {row.change} | {row.source} |" in page
    assert f"test counts them: {len(synthetic.TABLE)}." in page


@pytest.mark.parametrize("name", NAMES)
def test_derives_the_same_fixture(name, offline):
    row = synthetic.TABLE[NAMES.index(name)]
    base = fixtures.load(*row.base.partition("#")[0].split("/"))
    assert base["synthetic"] is None
    assert fixtures.load(row.server, row.scenario) == synthetic.derive(row, base)
    assert row.change and row.source


@pytest.mark.parametrize(
    ("server", "scenario", "firmware"),
    [
        ("lxd-5.21", "vm", {"security.csm": "true", "security.secureboot": "false"}),
        ("lxd-5.21", "vm_by_uefi", {"security.secureboot": "false"}),
        ("lxd-6.9", "vm", {"boot.mode": "bios"}),
        ("lxd-6.9", "vm_by_uefi", {"boot.mode": "uefi-nosecureboot"}),
    ],
)
def test_firmware_is_chosen_by_extension(server, scenario, firmware):
    [body] = [request["body"] for request in requests(server, scenario, "POST", "/1.0/instances")]
    options = {key: value for key, value in body["config"].items() if key.startswith(("security.", "boot.", "raw."))}
    assert options == firmware


def test_disk_hints_on_lxd():
    hints = [
        call["stdout"]["result"]
        for call in fixtures.load("lxd-5.21", "disk_attached")["calls"]
        if call["stdin"]["method"] == "attach_disk" and not call["stdout"]["error"]
    ]
    assert len(hints) == 2
    assert all(hint["path"].startswith("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_lxd_p") for hint in hints)


def test_waits_for_changes_of_volumes():
    changes = [
        interaction
        for call in fixtures.load("lxd-6.6", "disk")["calls"]
        for interaction in call["interactions"]
        if interaction["request"]["method"] != "GET" and interaction["response"]["body"]["type"] == "async"
    ]
    assert len(changes) == len(requests("lxd-6.6", "disk", "GET", "/wait")) == 6
    assert requests("incus", "disk", "GET", "/wait") == []


@pytest.mark.parametrize("server", ["lxd-5.21", "lxd-6.9"])
def test_delete_snapshot_succeeds_for_a_missing_snapshot(server):
    [call] = fixtures.load(server, "snapshot_missing")["calls"]
    assert call["stdout"]["error"] is None
    assert len(requests(server, "snapshot_missing", "GET", "/1.0/storage-pools")) == 1, (
        "the CPI looks in other pools too"
    )


def test_errors_on_lxd_6_9_are_those_on_incus():
    def error_types(server):
        return [call["stdout"]["error"]["type"] for call in fixtures.load(server, "vm_refused")["calls"]]

    assert error_types("lxd-6.9") == error_types("incus")


def test_finds_the_operation_of_a_lost_response_by_metadata():
    server, scenario = "lxd-6.9", "response_lost_while_operation_runs"
    [post] = requests(server, scenario, "POST", "/1.0/instances")
    [call] = fixtures.load(server, scenario)["calls"]
    [exchange] = [
        interaction for interaction in call["interactions"] if interaction["request"]["path"] == "/1.0/operations"
    ]
    [running] = exchange["response"]["body"]["metadata"]["running"]
    assert running["resources"] == {} and post["body"]["name"] in running["metadata"]["entity_url"]
    assert requests(server, scenario, "GET", f"/1.0/operations/{running['id']}/wait")
    assert call["stdout"]["error"] is None


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("wait_times_out_with_error", None),
        ("wait_times_out_with_state", None),
        ("operation_not_found", None),
        ("operation_cancelled", "VMCreationFailed"),
        ("response_lost_while_operation_runs", None),
        ("response_lost_and_name_taken", None),
        ("precondition_failed", None),
        ("database_locked", None),
        ("server_starting", None),
        ("no_space", "NoDiskSpace"),
        ("server_unreachable", "CloudError"),
        ("proxy_responds_502", None),
    ],
)
def test_result_of_a_fault(scenario, error):
    [call] = fixtures.load("faults", scenario)["calls"]
    error_document = call["stdout"]["error"]
    assert (error_document and error_document["type"].removeprefix("Bosh::Clouds::")) == error
    assert call["duration_ms"] < 90_000


def test_rejects_a_response_that_is_not_requested(offline):
    row = next(row for row in synthetic.TABLE if row.scenario == "database_locked")
    additional = response_changes.exchange("GET", "/1.0")
    changed = row._replace(changes=(*row.changes, lambda call: call["interactions"].append(additional)))
    with pytest.raises(synthetic.Mismatch, match="not requested"):
        synthetic.derive(changed, fixtures.load("incus", "disk"))
