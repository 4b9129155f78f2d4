"""Write the generated pages in docs/reference, or compare them with what the code generates."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.docs import cloud_properties, commands, errors, job_properties, methods

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"
PAGES: dict[str, Callable[[], str]] = {
    "cloud-properties": cloud_properties.page,
    "commands": commands.page,
    "errors": errors.page,
    "job-properties": job_properties.page,
    "methods": methods.page,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the pages. Return 1 if `--check` finds a page that differs from the code."""
    parser = argparse.ArgumentParser(prog="docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is not current")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"{', '.join(PAGES)} (default: all)")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.pages if name not in PAGES]:
        parser.error(f"there is no page {unknown[0]}")
    status = 0
    for name in arguments.pages or PAGES:
        path, text = REFERENCE / f"{name}.md", PAGES[name]()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        if arguments.check:
            print(f"{path.relative_to(REFERENCE.parents[1])} is not current: run bin/docs {name}")
            status = 1
        else:
            path.write_text(text, "utf-8")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
