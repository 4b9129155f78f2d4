"""The generated pages are current, and their examples are valid."""

from __future__ import annotations

import pytest
import yaml

from bosh_lxd_cpi.guest import cloud_properties as guest
from bosh_lxd_cpi.lxd import envelope
from tools.docs import cloud_properties, errors
from tools.docs.__main__ import PAGES, REFERENCE

PARSERS = {
    guest.VmProperties: guest.parse_vm_properties,
    guest.DiskProperties: guest.parse_disk_properties,
    guest.NetworkProperties: lambda document: guest.parse_network_properties(document, "default"),
    guest.StemcellProperties: guest.parse_stemcell_properties,
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name):
    assert (REFERENCE / f"{name}.md").read_text("utf-8") == PAGES[name](), f"run bin/docs {name}"


@pytest.mark.parametrize("kind", PARSERS, ids=lambda kind: kind.__name__)
def test_examples_of_cloud_properties_are_valid(kind):
    items = list(cloud_properties.properties(kind))
    assert [item.name for item in items] == list(kind._fields)
    for item in items:
        properties = PARSERS[kind]({item.name: yaml.safe_load(item.example)})
        assert getattr(properties, item.name) != item.default or item.name == "architecture"


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (r"^not authorized|^Forbidden", ["not authorized", "Forbidden"]),
        (r"Storage pool .*unavailable on this", ["Storage pool ...unavailable on this"]),
        (r"for \"(?P<key>limits\.[^\"]+)\" in project", ['for "..." in project']),
        (r"(isn't|is not) allowed to use", ["isn't allowed to use"]),
        (r"Profile (\".*\" )?not found", ["Profile ... not found"]),
        (r"required (UEFI|BIOS)? ?firmware", ["required ... firmware"]),
        (r"project \"?[^\" :]*\"? (not found|doesn't exist)", ["project ... not found"]),
    ],
)
def test_patterns_become_text(pattern, texts):
    assert errors._readable(pattern) == texts


def test_patterns_become_text_without_metacharacters():
    for pattern in filter(lambda pattern: pattern.code, envelope.ERROR_PATTERNS):
        for text in errors._readable(pattern.pattern):
            assert not set(text) & set("\\^$?*+|()[]"), text
