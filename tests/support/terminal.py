"""The output of a command as a self-contained SVG, and the text of such an SVG."""

from __future__ import annotations

import re
import textwrap
import xml.etree.ElementTree as ET
from html import escape

COLUMNS, CHARACTER, LINE, MARGIN, BAR = 110, 7.3, 17, 14, 30
"""Characters of a line; pixels of a character, of a line, around the text, and of the title bar."""
STYLE = """
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; white-space: pre; }
.frame { fill: #f6f8fa; stroke: #d0d7de; }
.title, .skip { fill: #59636e; }
.command { font-weight: bold; }
.ok { fill: #1a7f37; }
.warn { fill: #9a6700; }
.fail { fill: #d1242f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .frame { fill: #0d1117; stroke: #30363d; }
  .title, .skip { fill: #9198a1; }
  .ok { fill: #3fb950; }
  .warn { fill: #d29922; }
  .fail { fill: #f85149; }
}
"""
STATUS = re.compile(r"( *)(ok|warn|fail|skip)(?= )(.*)", re.DOTALL)

TABLE = re.compile(r" *(?:ok|warn|fail|skip) +\S.*?  +")
"""The columns in front of the message of a status."""


def svg(command: str, output: str) -> str:
    """Return the picture of a command and its output. Long lines are wrapped, statuses at their start are coloured."""
    lines = [line for text in (f"$ {command}", *output.splitlines()) for line in _wrap(text)]
    width, height = round(COLUMNS * CHARACTER) + 2 * MARGIN, BAR + LINE * len(lines) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title">',
        f'<title id="title">The output of {escape(command)}</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="frame" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
    ]
    for number, line in enumerate(lines):
        position = f'x="{MARGIN}" y="{BAR + LINE * number}"'
        kind = ' class="command"' if number == 0 else ""
        parts.append(f'<text xml:space="preserve" {position}{kind}>{_coloured(line)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def text(picture: str) -> list[str]:
    """Return the lines of a picture."""
    return ["".join(line.itertext()) for line in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


def _wrap(line: str) -> list[str]:
    table = TABLE.match(line)
    indent = " " * (table.end() if table else len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(
        line, COLUMNS, subsequent_indent=indent, drop_whitespace=True, replace_whitespace=False, break_on_hyphens=False
    ) or [""]


def _coloured(line: str) -> str:
    match = STATUS.match(line)
    if match is None:
        return escape(line)
    return f'{match[1]}<tspan class="{match[2]}">{match[2]}</tspan>{escape(match[3])}'
