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
ROOT = {"__init__", "__main__", "errors", "hints"}
MAY_IMPORT = {
    "admin": {
        "protocol",
        "actions",
        "recording",
        "guest",
        "lxd",
        "model",
        "config",
        "stemcell",
        "runtime",
        "errors",
        "hints",
    },
    "protocol": {"actions", "recording", "guest", "lxd", "model", "config", "stemcell", "runtime", "errors", "hints"},
    "actions": {"guest", "lxd", "model", "config", "stemcell", "runtime", "errors"},
    "recording": {"lxd", "config", "runtime", "errors"},
    "guest": {"model", "config", "runtime", "errors"},
    "lxd": {"runtime", "errors"},
    "model": {"runtime", "errors"},
    "config": {"runtime", "errors"},
    "stemcell": {"runtime", "errors"},
    "runtime": {"errors"},
    "errors": set(),
    "hints": {"errors"},
    "__init__": set(),
    "__main__": {"protocol"},
}
LIBRARIES = {"urllib3", "yaml"}
LONGEST = 300
"""Lines of a module."""
LONGEST_UNEXPLAINED = 2
"""Statements of a public function whose name says it all."""

MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
everywhere = pytest.mark.parametrize("module", MODULES)


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def folder(module: str) -> str:
    """The first part of a module's name: its folder, or the module itself at the package root."""
    return module.partition(".")[0]


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


def test_package_root_holds_folders_and_four_modules():
    assert {module for module in MODULES if "." not in module} == ROOT
    assert {folder(module) for module in MODULES} == MAY_IMPORT.keys()


@everywhere
def test_imports_point_downward(module):
    here = folder(module)
    for name in set(imports(module)) & MODULES.keys() - {"__init__"}:
        assert folder(name) == here or folder(name) in MAY_IMPORT[here], f"{module} imports {name}"


def test_import_rule_has_no_cycle():
    rest = {name: set(below) for name, below in MAY_IMPORT.items()}
    while leaves := {name for name, below in rest.items() if not below}:
        rest = {name: below - leaves for name, below in rest.items() if name not in leaves}
    assert rest == {}


def test_no_module_imports_itself_through_others():
    arrows = {module: set(imports(module)) & MODULES.keys() - {module, "__init__"} for module in MODULES}
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
        future = [
            node for node in tree(module).body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ]
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
        every = [
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            *filter(None, (arguments.vararg, arguments.kwarg)),
        ]
        return [one.arg for one in every if one.annotation is None and one.arg not in ("self", "cls")]

    assert {name: untyped(function) for name, function in functions(module) if untyped(function)} == {}


@everywhere
def test_every_public_function_explains_itself(module):
    def obvious(name: str, function: ast.FunctionDef) -> bool:
        return len(function.body) <= LONGEST_UNEXPLAINED or name.rpartition(".")[2].startswith("_")

    assert [
        name for name, function in functions(module) if not obvious(name, function) and not ast.get_docstring(function)
    ] == []
