from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.admin.cleanup import main


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for option in (
        "--config",
        "--cpi-config",
        "--director",
        "--min-age",
        "--dry-run",
        "--legacy",
        "--list",
        "--json",
        "--delete-disk",
        "--verbose",
        "--quiet",
    ):
        assert option in shown
    assert "Never removed" in shown


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--min-age", "soon"], "'soon' is not a duration; write 2m"),
        (["--list", "--delete-disk", "vol-p-1"], "not allowed with argument"),
        (["--json", "--quiet"], "not allowed with argument"),
        (["--delete-disk", ""], "--delete-disk: the value is empty"),
        (["--director", " "], "--director: the value is empty"),
        (["now"], "unrecognized arguments"),
    ],
)
def test_exits_with_2_for_invalid_arguments(argv, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_exits_with_2_if_the_configuration_is_unreadable(tmp_path, capsys):
    assert main.main(["--config", str(tmp_path / "missing.json")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("cleanup: the configuration file ") and line.endswith(
        "cannot be read: No such file or directory"
    )


def test_redacts_secrets_in_configuration_errors(tmp_path, capsys):
    file = tmp_path / "cpi.json"
    file.write_text(
        json.dumps({"server": {"tls_client_key": "very-secret"}, "agent": {"mbus": "nats://u:very-secret@h"}})
    )
    assert main.main(["--config", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "server.url is missing" in line and "very-secret" not in line


def test_an_error_of_one_cpi_does_not_stop_the_others(tmp_path, capsys):
    cpis = [{"name": "second", "type": "lxd", "properties": {"url": "x", "client_key": "very-secret"}}]
    (tmp_path / "cpi.json").write_text("{}", encoding="utf-8")
    (tmp_path / "cpis.json").write_text(json.dumps({"cpis": cpis}), encoding="utf-8")
    assert main.main(["--config", str(tmp_path / "cpi.json"), "--cpi-config", str(tmp_path / "cpis.json")]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("cleanup: ") and "server.url is missing" in first
    assert second.startswith("cleanup second: ") and "server.url must be" in second and "very-secret" not in second
