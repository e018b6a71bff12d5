# SPDX-License-Identifier: BSD-2-Clause
"""Groups of horizontal bars in two columns, as SVG, readable on light and on dark pages."""

from dataclasses import dataclass
from html import escape

COLUMN = 430
WIDTH = 2 * COLUMN
MARGIN = 16
LEFT = 194  # of a column: where bars begin
RIGHT = 70  # for the number behind the longest bar
TOP = 44
BAR = 13
BAR_STEP = 16
GROUP_TITLE = 20
GROUP_GAP = 12
BOTTOM = 34

STYLE = """\
  text { font: 12px sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; }
  .group { font-weight: 600; }
  .small { font-size: 11px; fill: #57606a; }
  .page { fill: #ffffff; }
  .peer { fill: #9aa4b0; }
  .ours { fill: #1f77b4; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; }
    .page { fill: #0d1117; }
    .peer { fill: #5b6570; }
    .ours { fill: #58a6ff; }
  }
"""


@dataclass(frozen=True)
class Bar:
    name: str
    is_ours: bool
    value: float


@dataclass(frozen=True)
class Group:
    """Its longest bar is as long as there is room."""

    name: str
    bars: list


def draw(title, below, groups, unit):
    columns = in_columns(groups)
    height = TOP + max(sum(map(height_of, column)) for column in columns) + BOTTOM
    parts = [text(MARGIN, 26, title, "title"), text(MARGIN, height - 14, below, "small")]
    for x, column in zip((0, COLUMN), columns):
        y = TOP
        for group in column:
            parts += draw_group(group, x, y, unit)
            y += height_of(group)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    page = f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>\n{STYLE}</style>", page, *parts, "</svg>", ""])


def in_columns(groups):
    """The first as soon as it has half of the height, the second what is left."""
    half, used, count = sum(map(height_of, groups)) / 2, 0, 0
    while used < half:
        used += height_of(groups[count])
        count += 1
    return groups[:count], groups[count:]


def height_of(group):
    return GROUP_TITLE + len(group.bars) * BAR_STEP + GROUP_GAP


def draw_group(group, x, y, unit):
    longest = max(bar.value for bar in group.bars) or 1
    parts = [text(x + MARGIN, y + 12, group.name, "group")]
    for number, bar in enumerate(group.bars):
        length = (COLUMN - LEFT - RIGHT) * bar.value / longest
        parts += draw_bar(bar, x + LEFT, y + GROUP_TITLE + number * BAR_STEP, length, unit)
    return parts


def draw_bar(bar, x, y, length, unit):
    kind = "ours" if bar.is_ours else "peer"
    return [
        text(x - 8, y + BAR - 2, bar.name, anchor="end"),
        f'<rect class="{kind}" x="{x}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" rx="2"/>',
        text(round(x + length + 6), y + BAR - 2, f"{bar.value:.2f} {unit}"),
    ]


def text(x, y, words, kind="", anchor=""):
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x}" y="{y}"{attributes}>{escape(words)}</text>'
