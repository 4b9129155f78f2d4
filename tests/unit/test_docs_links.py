"""The links from pages to pages, files and pictures, and from source comments to sections of the reference pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/README.md")])
DEVELOPMENT = sorted(ROOT.glob("docs/development/*.md"))
REFERENCES = ("bosh-contract", "lxd-api")
SOURCES = [path for folder in ("src", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
LINK = re.compile(r"\[[^]]+\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"docs/development/([\w-]+)\.md((?:[\s,]*(?:and\s+)?§[\d.]*\d)*)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def headings(path: Path) -> list[str]:
    """Return the text of all headings; indented blocks are code."""
    return re.findall(r"(?m)^#{1,6} (.*?)\s*$", path.read_text("utf-8"))


def anchor(heading: str) -> str:
    """Return the anchor that GitHub generates for a heading."""
    plain = re.sub(r"[^\w\- ]", "", heading.lower())
    return plain.replace(" ", "-")


def sections(page: str) -> set[str]:
    """Return the numbers of the sections of a reference page."""
    path = ROOT / f"docs/development/{page}.md"
    return {match[1] for heading in headings(path) if (match := re.match(r"(\d+(?:\.\d+)?)\.? ", heading))}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_existing_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if re.match(r"\w+:", link):
            continue
        target, _, fragment = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if fragment and path.suffix == ".md":
            assert fragment in map(anchor, headings(path)), link


@pytest.mark.parametrize("page", DEVELOPMENT, ids=lambda path: path.stem)
def test_files_named_in_development_pages_exist(page: Path) -> None:
    for name in re.findall(r"`((?:src|tests|bin|docs|jobs|tools|packages)/[\w./-]*\w)`", page.read_text("utf-8")):
        in_other_repository = page.stem in REFERENCES and not (ROOT / name).exists()
        assert in_other_repository or (ROOT / name).exists(), name


def test_modules_named_in_architecture_exist() -> None:
    folders = "actions|admin|config|guest|lxd|model|protocol|recording|runtime|stemcell"
    for page in ("architecture", "decisions", "testing"):
        text = (ROOT / f"docs/development/{page}.md").read_text("utf-8")
        for name in re.findall(rf"`((?:{folders})/\w+\.py)`", text):
            assert (ROOT / "src/bosh_lxd_cpi" / name).exists(), f"{page}: {name}"


@pytest.mark.parametrize("page", REFERENCES)
def test_reference_pages_have_numbered_sections(page: str) -> None:
    numbers = [number for number in sections(page) if "." not in number]
    assert sorted(map(int, numbers)) == list(range(1, len(numbers) + 1))


def test_source_comments_name_existing_sections() -> None:
    count = 0
    for path in SOURCES:
        text = re.sub(r"\s*\n\s*(?:#\s*)?", " ", path.read_text("utf-8"))
        text = text.replace("docs/development/ ", "docs/development/")
        for page, references in REFERENCE.findall(text):
            assert (ROOT / f"docs/development/{page}.md").exists(), f"{name_of(path)}: {page}.md"
            for number in re.findall(r"§([\d.]*\d)", references):
                assert number in sections(page), f"{name_of(path)}: {page}.md §{number}"
                count += 1
    assert count > 10


def test_pictures_have_a_text_alternative_and_a_dark_mode() -> None:
    for picture in sorted(ROOT.glob("docs/images/*.svg")):
        text = picture.read_text("utf-8")
        assert "<title" in text and "prefers-color-scheme: dark" in text, picture.name
    for page in PAGES:
        assert not re.findall(r"!\[\]\(", page.read_text("utf-8")), name_of(page)
