from __future__ import annotations

import pytest
import yaml

from bosh_lxd_cpi.admin import targets
from bosh_lxd_cpi.admin.targets import Target
from bosh_lxd_cpi.errors import ConfigError

SECOND = {"name": "second", "type": "lxd", "properties": {"url": "https://b:8443"}}


@pytest.fixture
def write(tmp_path):
    """Writes a cpi-config and returns its path."""

    def write(*cpis):
        path = tmp_path / "cpi-config.yml"
        path.write_text(yaml.safe_dump({"cpis": list(cpis)}), encoding="utf-8")
        return str(path)

    return write


def test_job_is_the_only_target_without_cpi_config():
    assert targets.read("") == [Target()]


def test_targets_are_the_job_and_the_cpis_of_this_type(write):
    path = write(SECOND, {"name": "cloud", "type": "aws", "properties": {"a": "((b))"}}, {"name": "c", "type": "lxd"})
    expected = [("", None), ("second", SECOND["properties"]), ("c", {})]
    assert targets.read(path) == [Target(*fields, is_only_one=False) for fields in expected]


def test_job_is_the_only_target_with_an_empty_cpi_config(write):
    assert targets.read(write()) == [Target()]


@pytest.mark.parametrize(
    "cpi, message",
    [
        ("x", "is not a cpi-config: it has no list cpis of objects"),
        ({**SECOND, "properties": [1]}, "the properties of CPI second in .* must be an object"),
        (
            {**SECOND, "properties": {"url": "https://((host)):1"}},
            r"CPI second in .* contains the variable \(\(host\)\)",
        ),
    ],
    ids=["CPI", "properties", "variable"],
)
def test_rejects_an_invalid_cpi_config(write, cpi, message):
    with pytest.raises(ConfigError, match=message):
        targets.read(write(cpi))


def test_rejects_another_file(tmp_path):
    (tmp_path / "cpi.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a cpi-config"):
        targets.read(str(tmp_path / "cpi.json"))


@pytest.mark.parametrize(
    "target, title",
    [
        (Target(), ""),
        (Target(is_only_one=False), "CPI of the job, https://a\n"),
        (Target("second", is_only_one=False), "CPI second, https://a\n"),
    ],
    ids=["only one", "job", "cpi-config"],
)
def test_title_names_the_cpi_and_its_server(target, title, capsys):
    target.print_title("https://a")
    assert capsys.readouterr().out == title
