"""The page of the cloud_properties, from the classes of guest/cloud_properties.py."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from bosh_lxd_cpi.guest import cloud_properties
from tools.docs.markdown import table

HEAD = """\
# cloud_properties

`bin/docs` generates this page from `src/bosh_lxd_cpi/guest/cloud_properties.py`.

All properties are optional. An unknown property is an error, except for stemcells. A property that is null has its
default. Job properties are written without the prefix `lxd_cpi.`: see [job properties](job-properties.md).
[The cloud-config](../how-to/cloud-config.md) shows how to use them.
"""

SECTIONS = {
    cloud_properties.VmProperties: ("VMs", "In `vm_types`, `vm_extensions` and `azs`. The director merges them."),
    cloud_properties.DiskProperties: ("Disks", "In `disk_types`."),
    cloud_properties.NetworkProperties: ("Networks", "In the subnets of `networks`, and in dynamic networks."),
    cloud_properties.StemcellProperties: ("Stemcells", "In `stemcell.MF` of a stemcell. Other keys are ignored."),
}
TYPES: dict[type, str] = {str: "string", int: "integer", bool: "boolean", tuple: "list of strings", dict: "object"}


class Property(NamedTuple):
    """A property as its class describes it."""

    name: str
    default: Any
    description: str
    unit: str
    example: str


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for kind, (title, place) in SECTIONS.items():
        rows = [
            (f"`{item.name}`", _type(item), _default(item), item.description, f"`{item.example}`")
            for item in properties(kind)
        ]
        parts.append(f"## {title}\n\n{place}\n\n{table(('name', 'type', 'default', 'description', 'example'), rows)}")
    return "\n".join(parts)


def properties(kind: type) -> Iterator[Property]:
    """Return the properties of a class. Raise ValueError for one without a description and an example."""
    [definition] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            name = field.target.id
            docstring = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else ""
            match = re.fullmatch(r"(.*?\.)(?: Unit: (\w+)\.)? Example: (.*)", str(docstring), re.DOTALL)
            if not match:
                raise ValueError(f"{kind.__name__}.{name} needs a docstring with `Example: VALUE` at its end")
            yield Property(name, vars(kind)["_field_defaults"][name], match[1], match[2] or "", match[3])


def _type(item: Property) -> str:
    return f"{TYPES[type(item.default)]}{f', {item.unit}' if item.unit else ''}"


def _default(item: Property) -> str:
    return "none" if item.default in ("", (), {}) else f"`{str(item.default).lower()}`"
