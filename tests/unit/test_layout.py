"""The layout of the package: which folder may import which, and what each module and function must have.

    admin, protocol -> actions, recording -> guest, lxd -> model, config, stemcell -> runtime -> errors

A module imports from its own folder and from some of those further to the right: see MAY_IMPORT, and
docs/development/architecture.md.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bosh_lxd_cpi

PACKAGE = Path(bosh_lxd_cpi.__file__).parent
ROOT = {"__init__", "__main__", "errors", "hints"}
MAY_IMPORT = {
    "errors": set(),
    "hints": {"errors"},
    "runtime": {"errors"},
    "stemcell": {"runtime", "errors"},
    "config": {"runtime", "errors"},
    "model": {"runtime", "errors"},
    "lxd": {"runtime", "errors"},
    "guest": {"model", "config", "runtime", "errors"},
    "recording": {"lxd", "config", "runtime", "errors"},
    "actions": {"guest", "lxd", "model", "config", "stemcell", "runtime", "errors"},
    "__init__": set(),
    "__main__": {"protocol"},
}
MAY_IMPORT["protocol"] = {"actions", "recording", "hints", *MAY_IMPORT["actions"]}
MAY_IMPORT["admin"] = {"protocol", *MAY_IMPORT["protocol"]}
TESTS = Path(__file__).parents[1]
LIBRARIES = {"urllib3", "yaml"}
MAX_LINES = 300
"""Lines of a module."""
MAX_STATEMENTS_WITHOUT_DOCSTRING = 2
"""Statements of a public function whose name is documentation enough."""
MAX_PARAMETERS = 5
"""Parameters of a function of which more than two are positional, without self and context."""
BOSH_METHODS = {"create_vm"}
"""Methods that BOSH calls with more arguments. BOSH passes arguments by position."""

MAX_TEST_NAME = 60
"""Characters of the name of a test function."""

SOURCES = sorted(
    path
    for path in (*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py"), *TESTS.parent.glob("tools/**/*.py"))
    if "fixtures" not in path.parts
)
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
everywhere = pytest.mark.parametrize("module", MODULES)


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def folder(module: str) -> str:
    """Return the folder of a module, or the module itself if it is in the package root."""
    return module.partition(".")[0]


def imports(module: str) -> Iterator[str]:
    """Yield the modules of the package that a module imports anywhere, and the top-level names of others."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (_module_name(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module
            below = [f"{node.module}.{alias.name}".removeprefix("bosh_lxd_cpi.") for alias in node.names]
            modules = [name for name in below if name in MODULES]
            yield from modules or [_module_name(node.module)]


def _module_name(name: str) -> str:
    if name == "bosh_lxd_cpi":
        return "__init__"
    return name.removeprefix("bosh_lxd_cpi.") if name.startswith("bosh_lxd_cpi.") else name.partition(".")[0]


def functions(module: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the public functions and the methods of public classes with their dotted names."""

    def walk(prefix: str, nodes: list[ast.stmt]) -> Iterator[tuple[str, ast.FunctionDef]]:
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                yield prefix + node.name, node
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(f"{prefix}{node.name}.", node.body)

    yield from walk("", tree(module).body)


def without_leaves(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Remove nodes without outgoing edges until none is left. The rest are the nodes on or before a cycle."""
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    return graph


def test_package_root_holds_folders_and_four_modules():
    assert {module for module in MODULES if "." not in module} == ROOT
    assert {folder(module) for module in MODULES} == MAY_IMPORT.keys()


@everywhere
def test_imports_point_downward(module):
    here = folder(module)
    for name in set(imports(module)) & MODULES.keys() - {"__init__"}:
        assert folder(name) == here or folder(name) in MAY_IMPORT[here], f"{module} imports {name}"


def test_import_rule_has_no_cycle():
    assert without_leaves(MAY_IMPORT) == {}


def test_modules_have_no_import_cycle():
    assert without_leaves({module: set(imports(module)) & MODULES.keys() - {"__init__"} for module in MODULES}) == {}


@everywhere
def test_needs_no_library_but_urllib3_and_yaml(module):
    others = set(imports(module)) - MODULES.keys() - sys.stdlib_module_names
    assert others <= LIBRARIES


@everywhere
def test_module_is_not_too_long(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@everywhere
def test_annotations_are_not_evaluated(module):
    if module.rpartition(".")[2] not in ("__init__", "__main__"):
        future = [
            node for node in tree(module).body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ]
        assert [alias.name for node in future for alias in node.names] == ["annotations"]


@everywhere
def test_module_has_docstring(module):
    assert ast.get_docstring(tree(module)) or module == "__main__"


@everywhere
def test_functions_annotate_their_result(module):
    assert [name for name, function in functions(module) if function.returns is None] == []


@everywhere
def test_parameters_have_a_type(module):
    def untyped(function: ast.FunctionDef) -> list[str]:
        arguments = function.args
        every = [
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            *filter(None, (arguments.vararg, arguments.kwarg)),
        ]
        return [
            argument.arg for argument in every if argument.annotation is None and argument.arg not in ("self", "cls")
        ]

    assert {name: untyped(function) for name, function in functions(module) if untyped(function)} == {}


@everywhere
def test_public_functions_have_a_docstring(module):
    def obvious(name: str, function: ast.FunctionDef) -> bool:
        return len(function.body) <= MAX_STATEMENTS_WITHOUT_DOCSTRING or name.rpartition(".")[2].startswith("_")

    assert [
        name for name, function in functions(module) if not obvious(name, function) and not ast.get_docstring(function)
    ] == []


@everywhere
def test_long_parameter_lists_are_keyword_only(module):
    def too_many(function: ast.FunctionDef) -> bool:
        every = [*function.args.posonlyargs, *function.args.args]
        positional = [argument for argument in every if argument.arg not in ("self", "cls", "context")]
        return len(positional) > 2 and len(positional) + len(function.args.kwonlyargs) > MAX_PARAMETERS

    every = [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef)]
    assert {function.name for function in every if too_many(function)} <= BOSH_METHODS


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_test_names_are_short(path):
    names = re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
    assert [name for name in names if len(name) > MAX_TEST_NAME] == []


def loop_variables(path: Path) -> Iterator[str]:
    """Yield the names of the variables of loops and comprehensions in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.For | ast.comprehension):
            yield from (name.id for name in ast.walk(node.target) if isinstance(name, ast.Name))


def test_loop_variables_name_their_objects():
    assert [str(path) for path in SOURCES if "one" in loop_variables(path)] == []


def test_comments_name_the_document_they_refer_to():
    assert [str(path) for path in SOURCES if re.search(r"#.*\(facts\b:", path.read_text(encoding="utf-8"))] == []
