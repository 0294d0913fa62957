#!/usr/bin/env python3
"""Draws what a program wrote on a terminal of 80 columns, bold and colours included, as an SVG.

script -qec target/release/examples/demo /dev/null | docs/picture.py 'cargo run --release --example demo' > docs/demo.svg
"""

import re
import sys
from xml.sax.saxutils import escape

COLUMNS, WIDTH, HEIGHT = 80, 8.4, 18
STYLES = {"1": 'font-weight="bold"', "32": 'fill="#7ee787"'}


def line(text, y):
    spans, style, column = [], "", 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", text):
        if part.startswith("\x1b["):
            codes = part[2:-1].split(";")
            style = "".join(f" {STYLES[code]}" for code in codes if code in STYLES)
        elif part:
            spans.append(f'<tspan x="{16 + column * WIDTH:.1f}"{style}>{escape(part)}</tspan>')
            column += len(part)
    return f'<text y="{y}" xml:space="preserve">{"".join(spans)}</text>'


shown = sys.stdin.read().replace("\r", "").rstrip("\n").split("\n")
lines = [f"\x1b[1m$ {sys.argv[1]}\x1b[0m", *shown]
width, height = COLUMNS * WIDTH + 32, len(lines) * HEIGHT + 32
print(
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" '
    'font-family="ui-monospace, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="14" fill="#e6edf3">'
)
print(f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#0d1117"/>')
for number, text in enumerate(lines):
    print(line(text, 30 + number * HEIGHT))
print("</svg>")
