"""A timeline as a self-contained SVG: with a lane for each worker. Waits for a slot are hatched."""

from __future__ import annotations

from html import escape

from timeline import Call

WIDTH, LABELS, LANE, TOP = 960, 60, 26, 64
"""Pixels: of the picture, of the labels of lanes, of a lane, above the first lane."""
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
"""Seconds between two lines of the time axis."""
MAX_TICKS = 12
CHARACTER = 6.2
"""Pixels of a character in a bar."""
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1f2328; }
.background { fill: #ffffff; }
.lane { fill: #f3f4f6; }
.axis { stroke: #d0d7de; }
.server, .own { stroke: #ffffff; stroke-width: 0.5; }
.server { fill: #8ab4f8; }
.own { fill: #c9a6f5; }
.error { stroke: #d1242f; stroke-width: 2; fill: none; }
.line { stroke: #b26a00; stroke-width: 2; }
.waiting { fill: url(#waiting); stroke: #b26a00; stroke-width: 0.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .background { fill: #0d1117; } .lane { fill: #161b22; } .axis { stroke: #30363d; }
  .server, .own { stroke: #0d1117; } .server { fill: #1f5fbf; } .own { fill: #7d4fc0; } .error { stroke: #ff7b72; }
  .line { stroke: #e3a33b; } .waiting { stroke: #e3a33b; }
}
"""


def lanes(calls: list[Call]) -> list[list[Call]]:
    """Return the calls in as few lanes as possible, so that the calls of a lane do not overlap."""
    rows: list[list[Call]] = []
    for call in sorted(calls, key=lambda call: call.start):
        free = next((row for row in rows if row[-1].end <= call.start), None)
        if free is None:
            rows.append([call])
        else:
            free.append(call)
    return rows


def svg(calls: list[Call]) -> str:
    """Return the picture. `calls` is not empty."""
    rows = lanes(calls)
    begin = min(call.start for call in calls)
    seconds = max(max(call.end for call in calls) - begin, 0.001)
    scale = (WIDTH - LABELS - 20) / seconds
    height = TOP + LANE * len(rows) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title">',
        f'<title id="title">Timeline of {len(calls)} CPI calls in {seconds:.1f} seconds</title>',
        f"<style>{STYLE}</style>",
        '<defs><pattern id="waiting" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><line class="line" y2="6"/></pattern></defs>',
        f'<rect class="background" width="{WIDTH}" height="{height}"/>',
        *_legend(),
        *_axis(seconds, scale, height),
    ]
    for number, row in enumerate(rows):
        top = TOP + LANE * number
        parts.append(f'<rect class="lane" x="{LABELS}" y="{top}" width="{WIDTH - LABELS - 20}" height="{LANE - 4}"/>')
        parts.append(f'<text x="8" y="{top + 15}">worker {number + 1}</text>')
        for call in row:
            parts += _bar(call, LABELS + (call.start - begin) * scale, top, scale)
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> list[str]:
    parts, left = [], LABELS
    for name, text in (("waiting", "waiting for a throttle slot"), ("server", "server"), ("own", "CPI itself")):
        parts.append(f'<rect class="{name}" x="{left}" y="12" width="14" height="12"/>')
        parts.append(f'<text x="{left + 20}" y="22">{text}</text>')
        left += 40 + round(len(text) * CHARACTER)
    return parts


def _axis(seconds: float, scale: float, height: int) -> list[str]:
    step = next((tick for tick in TICKS if seconds / tick <= MAX_TICKS), seconds / MAX_TICKS)
    parts = []
    for number in range(int(seconds / step) + 1):
        left = LABELS + number * step * scale
        parts.append(f'<line class="axis" x1="{left:.1f}" x2="{left:.1f}" y1="{TOP - 8}" y2="{height - 24}"/>')
        parts.append(f'<text x="{left:.1f}" y="{TOP - 14}" text-anchor="middle">{number * step:g} s</text>')
    return parts


def _bar(call: Call, left: float, top: int, scale: float) -> list[str]:
    """Return the parts of a call in their order: the start of the program, the wait for a slot, the server."""
    details = (
        f"{call.method} {call.request_id} {call.subject}: {call.total:.2f} s, of which {call.waiting:.2f} s waiting "
    )
    details += f"for a slot, {call.server:.2f} s for the server in {call.requests} requests, {call.own:.2f} s own"
    details += f"; failed: {call.error}" if call.error else ""
    parts = [f"<g><title>{escape(details)}</title>"]
    position = left
    for name, seconds in (("own", call.own), ("waiting", call.waiting), ("server", call.server)):
        if seconds * scale >= 0.1:
            size = f'width="{seconds * scale:.1f}" height="{LANE - 4}"'
            parts.append(f'<rect class="{name}" x="{position:.1f}" y="{top}" {size}/>')
        position += seconds * scale
    if call.error:
        parts.append(
            f'<rect class="error" x="{left:.1f}" y="{top}" width="{call.total * scale:.1f}" height="{LANE - 4}"/>'
        )
    if (len(call.method) + 1) * CHARACTER < call.server * scale:
        parts.append(f'<text x="{position - call.server * scale + 4:.1f}" y="{top + 15}">{escape(call.method)}</text>')
    return [*parts, "</g>"]
