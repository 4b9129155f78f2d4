from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.admin.cleanup import main


def test_help_names_every_option_and_what_never_goes(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for option in ("--config", "--director", "--min-age", "--dry-run", "--legacy", "--list", "--json", "--delete-disk"):
        assert option in shown
    assert "Never removed" in shown


@pytest.mark.parametrize(
    "argv, complaint",
    [
        (["--min-age", "soon"], "'soon' is not a duration; write 2m"),
        (["--list", "--delete-disk", "vol-p-1"], "not allowed with argument"),
        (["--json"], "--json goes with --list"),
        (["--delete-disk", ""], "--delete-disk: it is empty"),
        (["--director", " "], "--director: it is empty"),
        (["now"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line_is_status_2(argv, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(argv)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_configuration_that_cannot_be_read_is_one_line_and_status_2(tmp_path, capsys):
    assert main.main(["--config", str(tmp_path / "missing.json")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("cleanup: the configuration file ") and "No such file" in line


def test_faults_of_the_configuration_are_told_without_its_secrets(tmp_path, capsys):
    file = tmp_path / "cpi.json"
    file.write_text(
        json.dumps({"server": {"tls_client_key": "very-secret"}, "agent": {"mbus": "nats://u:very-secret@h"}})
    )
    assert main.main(["--config", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "server.url must be" in line and "very-secret" not in line
