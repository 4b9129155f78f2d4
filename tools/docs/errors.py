"""The page of the errors, from hints.py, errors.py, and the messages in the source of the package."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bosh_lxd_cpi import errors, hints
from bosh_lxd_cpi.lxd import envelope
from tools.docs.markdown import table

SOURCE = Path(__file__).resolve().parents[2] / "src/bosh_lxd_cpi"
CHECK_METHODS = ("skip", "warn", "fail")

HEAD = """\
# Errors

`bin/docs` generates this page from the source of the CPI.

BOSH prints `CPI error 'TYPE' with message '...'`. The end of the message is a hint: what to do. `bin/doctor` and
`bin/cleanup` print the same hints.

## Messages

The messages of the CPI, of `bin/doctor` (with the check before the colon) and of the servers, in alphabetical order.
"..." and words in capitals stand for names. A hint shows the commands of Incus. For LXD, replace `incus` by `lxc`,
`incus config trust add-certificate` by `lxc config trust add`, and `incus admin sql` by `lxd sql`. The code is the name
of the hint in `hints.py`.

"""
TYPES = """
## Types

Each error that BOSH receives has one of these types; the prefix `Bosh::Clouds::` is left out. An error that can pass
needs no change: run the task again. The director repeats a call only if `ok_to_retry` is true. This is never the case
except for VMCreationFailed: false if the VM is kept or the same call would fail again, true otherwise. A call that a
signal stopped (Interrupted) is a CloudError.

"""
INTERNAL = (
    "An error in the CPI itself. The debug log has its traceback: report it with a [capture](../how-to/capture.md)."
)

MESSAGES = {
    "grow_pool": ["pool: ... has ... GiB free (a pool in a file that can grow)"],
    "interrupted_elsewhere": [
        "already defined on another NIC; ..., which has been in the state creating for ... minutes"
    ],
    "larger_pool": ["pool: ... has ... GiB free (a pool in a file, on LXD 5.0)"],
    "leftovers_of_others": ["leftovers: ... of ... resources are unused and may belong to other directors"],
    "no_host": ["address: ...: Name or service not known"],
    "other_address": ["internal_ip: ... is used by ..., is the address of the bridge, is outside ..."],
    "pool_pending": ["pool: ... is pending, errored, unknown"],
    "see_server_log": ["any error without another hint"],
    "unknown_property": ["configuration: unknown property ..."],
    "bad_property": ["configuration: ... must be ..., ... is missing"],
    "vm_kept": ["any error of create_vm, with keep_failed_vms set"],
}
"""The messages of codes that no call contains together with its message."""


class Message(NamedTuple):
    """A message as it is in the source, the code of its hint, and the class of the error, if it is one."""

    text: str
    code: str
    error: str


def page() -> str:
    """Return the page. Raise ValueError for a hint without a message."""
    texts: dict[str, list[str]] = defaultdict(list, {code: list(messages) for code, messages in MESSAGES.items()})
    codes: dict[str, set[str]] = defaultdict(set)
    for message in [*_server_messages(), *_source_messages()]:
        if message.code not in MESSAGES and message.text not in texts[message.code]:
            texts[message.code].append(message.text)
        codes[message.error].add(message.code)
    if missing := [code for code in hints.HINTS if not texts[code]]:
        raise ValueError(f"no message for the hints {', '.join(missing)}: add them to MESSAGES in tools/docs/errors.py")
    rows = [("<br>".join(texts[code]), hints.text(code, server="incus"), f"`{code}`") for code in hints.HINTS]
    rows.sort(key=lambda row: row[0].lower().lstrip(". "))
    return HEAD + table(("message", "what to do", "code"), rows) + TYPES + _types(codes)


def _types(codes: dict[str, set[str]]) -> str:
    """Return the table of the classes, with the codes of the messages in each."""
    rows = []
    for error in _classes(errors.CpiError):
        meaning = INTERNAL if error is errors.CpiError else (error.__doc__ or "").partition("\n\n")[0]
        kind = error.type.removeprefix("Bosh::Clouds::")
        hint_codes = ", ".join(f"`{code}`" for code in sorted(codes[error.__name__]))
        rows.append((error.__name__, kind, "yes" if error.transient else "no", meaning, hint_codes))
    return table(("class", "BOSH type", "can pass", "meaning", "codes of hints"), rows)


def _classes(error: type[errors.CpiError]) -> Iterator[type[errors.CpiError]]:
    yield error
    for subclass in error.__subclasses__():
        if subclass.__module__ == errors.__name__:
            yield from _classes(subclass)


def _server_messages() -> Iterator[Message]:
    """Return the messages of the servers, from the patterns that recognise them."""
    for pattern in envelope.ERROR_PATTERNS:
        if pattern.code:
            assert isinstance(pattern.error, type)
            for text in _readable(pattern.pattern):
                yield Message(text, pattern.code, pattern.error.__name__)


def _readable(pattern: str) -> list[str]:
    """Return the alternatives of a pattern as text, with `...` for its variable parts and the first word of a group."""
    text = re.sub(r"\(\?P<\w+>.*?\)", "...", pattern.replace("(?-i:^Not Found$)", "Not Found"))
    text = re.sub(r"\(([^()|]*)[^()]*\)(\??)", _group, text)
    text = re.sub(r"\[\^[^]]*\][*+]|\.\*", "...", text).replace(" ?", " ")
    texts = [re.sub(r"\\(.)", r"\1", re.sub(r'\\?"\?', "", part)).strip("^$ :") for part in text.split("|")]
    return [re.sub(r"(?:\.\.\.)+", "...", re.sub(r" +", " ", part)) for part in texts]


def _group(match: re.Match[str]) -> str:
    """Return the first alternative of a group, or `...` if the group is optional."""
    if not match[2]:
        return match[1]
    return "... " if match[1].endswith(" ") else "..."


def _source_messages() -> Iterator[Message]:
    """Return the messages of all calls that contain a message and the code of a hint."""
    for path in sorted(SOURCE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call):
                        yield from _messages_of_call(node, _values(function, before=node.lineno))


def _values(function: ast.FunctionDef, *, before: int) -> dict[str, ast.expr]:
    """Return the last expression that was assigned to each variable before a line."""
    values: dict[str, ast.expr] = {}
    for node in sorted(ast.walk(function), key=lambda node: getattr(node, "lineno", 0)):
        if isinstance(node, ast.Assign) and node.lineno < before:
            targets, expressions = [node.targets[0]], [node.value]
            if isinstance(targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                targets, expressions = targets[0].elts, node.value.elts
            for target, expression in zip(targets, expressions, strict=True):
                if isinstance(target, ast.Name):
                    values[target.id] = expression
    return values


def _messages_of_call(call: ast.Call, values: dict[str, ast.expr]) -> Iterator[Message]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in CHECK_METHODS and len(call.args) > 2:
        check, message, code = call.args[:3]
        for text in filter(_has_words, _texts(message, values)):
            for value in _texts(code, values):
                if value in hints.HINTS:
                    yield Message(f"{_texts(check, values)[0]}: {text}".removeprefix("...: "), value, "")
    elif hasattr(errors, name) and call.args:
        for expression in (keyword.value for keyword in call.keywords if keyword.arg == "code"):
            if isinstance(expression, ast.Constant) and expression.value in hints.HINTS:
                for text in filter(_has_words, _texts(call.args[0], values)):
                    yield Message(text, str(expression.value), name)


def _has_words(text: str) -> bool:
    return bool(text.strip(".: "))


def _texts(node: ast.expr, values: dict[str, ast.expr]) -> list[str]:
    """Return the strings that an expression can have, with `...` for its variable parts."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values]
        return [re.sub(r"\.\.\.(?:: \.\.\.)*$", "...", "".join(parts))]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, values), *_texts(node.orelse, values)]
    if isinstance(node, ast.Name) and node.id in values:
        return _texts(values[node.id], {name: value for name, value in values.items() if name != node.id})
    return ["..."]
