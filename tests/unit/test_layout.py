"""The house's plan, walked: who may import whom, how long a module may be, what every function must say about itself.

    hall -> actions -> guest, lxd -> cellar        doctor -> checks -> beside -> guest, lxd, cellar
                                                   doctor -> actions

An arrow may pass over a floor, but never go up, nor sideways from one wing into another.
"""
from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bosh_lxd_cpi

PACKAGE = Path(bosh_lxd_cpi.__file__).parent
HALL = {"__main__", "cli", "rpc", "methods", "capture", "replay"}
DOCTOR = {"doctor", "deep"}
BESIDE = {"cleanup", "inventory", "listing", "sweep"}
CELLAR = {"__init__", "errors", "config", "log", "throttle", "undo", "clock", "directors", "ids", "mends", "nearest", "pending",
          "propertytree", "redaction"}
BELOW = {"hall": {"actions", "guest", "lxd", "cellar"}, "actions": {"guest", "lxd", "cellar"}, "guest": {"cellar"}, "lxd": {"cellar"},
         "doctor": {"checks", "actions", "beside", "guest", "lxd", "cellar"}, "checks": {"beside", "guest", "lxd", "cellar"},
         "beside": {"guest", "lxd", "cellar"}, "cellar": set()}
LIBRARIES = {"urllib3", "yaml"}
LONGEST = 300
"""Lines of a module."""
LONGEST_UNEXPLAINED = 2
"""Statements of a public function whose name says it all."""

MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
everywhere = pytest.mark.parametrize("module", MODULES)


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def room(module: str) -> str:
    wing, dot, _ = module.partition(".")
    if dot or wing in ("actions", "guest", "lxd", "checks"):
        return wing
    rooms = {"hall": HALL, "doctor": DOCTOR, "beside": BESIDE, "cellar": CELLAR}
    return next((name for name, modules in rooms.items() if wing in modules), "")


def imports(module: str) -> Iterator[str]:
    """Every module of ours that this one imports, wherever in its text, and the first name of all others."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (_ours(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module
            below = [f"{node.module}.{alias.name}".removeprefix("bosh_lxd_cpi.") for alias in node.names]
            known = [name for name in below if name in MODULES]
            yield from known or [_ours(node.module)]


def _ours(name: str) -> str:
    if name == "bosh_lxd_cpi":
        return "__init__"
    return name.removeprefix("bosh_lxd_cpi.") if name.startswith("bosh_lxd_cpi.") else name.partition(".")[0]


def functions(module: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods that others may call, by their dotted names."""
    def walk(prefix: str, nodes: list[ast.stmt]) -> Iterator[tuple[str, ast.FunctionDef]]:
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                yield prefix + node.name, node
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(f"{prefix}{node.name}.", node.body)

    yield from walk("", tree(module).body)


@everywhere
def test_every_module_has_its_room(module):
    assert room(module), f"say in HALL, BESIDE or CELLAR where {module} lives"


@everywhere
def test_imports_lead_downward_only(module):
    here = room(module)
    for name in set(imports(module)) & MODULES.keys():
        assert room(name) == here or room(name) in BELOW[here], f"{module} ({here}) imports {name} ({room(name)})"


def test_a_wrong_arrow_would_be_seen():
    assert set(imports("actions.vms")) >= {"errors", "actions.cpi", "guest.disks"}
    assert "lxd" not in BELOW["guest"] and "guest" not in BELOW["lxd"]
    assert all("hall" not in below for below in BELOW.values())
    assert [room for room, below in BELOW.items() if "beside" in below] == ["doctor", "checks"]


def test_no_module_imports_itself_through_others():
    arrows = {module: set(imports(module)) & MODULES.keys() - {module, "__init__"} for module in MODULES}
    arrows["methods"] = arrows["methods"] - {"rpc"}  # for a type only
    while leaves := {module for module, below in arrows.items() if not below}:
        arrows = {module: below - leaves for module, below in arrows.items() if module not in leaves}
    assert arrows == {}, "these import each other"


@everywhere
def test_only_two_packages_are_needed_beside_the_standard_library(module):
    others = set(imports(module)) - MODULES.keys() - sys.stdlib_module_names
    assert others <= LIBRARIES


@everywhere
def test_no_module_is_too_long_to_read(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST


@everywhere
def test_annotations_are_never_evaluated(module):
    if module.rpartition(".")[2] not in ("__init__", "__main__"):
        future = [node for node in tree(module).body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        assert [alias.name for node in future for alias in node.names] == ["annotations"]


@everywhere
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(tree(module)) or module == "__main__"


@everywhere
def test_every_function_says_what_comes_back(module):
    assert [name for name, function in functions(module) if function.returns is None] == []


@everywhere
def test_every_argument_has_a_type(module):
    def untyped(function: ast.FunctionDef) -> list[str]:
        arguments = function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs,
                 *filter(None, (arguments.vararg, arguments.kwarg))]
        return [one.arg for one in every if one.annotation is None and one.arg not in ("self", "cls")]

    assert {name: untyped(function) for name, function in functions(module) if untyped(function)} == {}


@everywhere
def test_every_public_function_explains_itself(module):
    def obvious(name: str, function: ast.FunctionDef) -> bool:
        return len(function.body) <= LONGEST_UNEXPLAINED or name.rpartition(".")[2].startswith("_")

    assert [name for name, function in functions(module)
            if not obvious(name, function) and not ast.get_docstring(function)] == []
