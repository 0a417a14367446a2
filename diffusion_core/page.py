"""A self-contained HTML page of numbered figures and tables, for the screen and for paper."""

import base64
import re
from html import escape
from typing import NamedTuple

from .figures import Picture


class Table(NamedTuple):
    """Cells as text, rows as long as the head, which may be left out."""

    caption: str
    head: list[str]
    rows: list[list[str]]


class Commands(NamedTuple):
    """Lines for a shell."""

    lines: list[str]


class Missing(str):
    """One sentence: what is not here, and what would bring it."""


Block = str | Missing | Table | Commands | Picture  # a plain string is a paragraph, and `this` in it code

STYLE = """
:root { color-scheme: light; --ink: #1b2430; --faint: #566170; --line: #d5dae1; --accent: #005f95; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3rem 1.2rem 5rem; max-width: 47rem; color: var(--ink); background: #fff;
       font: 1rem/1.5 "Charter", "Bitstream Charter", "Georgia", "Times New Roman", serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; font-weight: 600; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; font-weight: 600; border-top: 1px solid var(--line);
     padding-top: 1rem; }
.lead { color: var(--faint); margin: 0 0 1.6rem; }
nav ol { margin: 0; padding: 0; columns: 2; column-gap: 2rem; list-style: none; font-size: .95rem; }
nav a { color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
figure { margin: 1.4rem 0 1.8rem; overflow-x: auto; }
figure img { display: block; margin: 0 auto; max-width: 100%; height: auto; }
figcaption, caption { font-size: .88rem; line-height: 1.4; color: var(--ink); text-align: left; }
figcaption { margin-top: .6rem; }
caption { caption-side: top; padding-bottom: .5rem; }
figcaption b, caption b { font-weight: 600; }
.table { overflow-x: auto; margin: 1.4rem 0 1.8rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; line-height: 1.35;
        font-variant-numeric: tabular-nums; }
thead { border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); }
tbody { border-top: 1.5px solid var(--ink); border-bottom: 1.5px solid var(--ink); }
thead + tbody { border-top: 0; }
thead th { font-weight: 600; vertical-align: bottom; }
th, td { text-align: left; padding: .22rem .5rem .22rem 0; vertical-align: top; }
td { overflow-wrap: break-word; }
.missing { border-left: 3px solid #c25400; padding: .1rem 0 .1rem .8rem; color: var(--faint); }
code, pre { font: .82em/1.6 "DejaVu Sans Mono", "Menlo", "Consolas", monospace; overflow-wrap: anywhere; }
pre { background: #f6f7f9; border: 1px solid var(--line); padding: .7rem .9rem; white-space: pre-wrap; }
pre span { white-space: nowrap; }
@media (max-width: 600px) { nav ol { columns: 1; } figure img { max-width: none; width: 36rem; }
                            table:has(thead) { min-width: 34rem; } }
@page { size: A4; margin: 18mm 20mm; }
@media print {
  body { padding: 0; max-width: none; font-size: 10.5pt; }
  h2 { break-after: avoid; margin-top: 1.6rem; }
  figure, tr, pre, .missing { break-inside: avoid; }
  figure, .table { overflow: visible; margin: .9rem 0 1.1rem; }
  .table.short { break-inside: avoid; }
  thead { display: table-header-group; }
  table { font-size: 8.5pt; }
  pre { font-size: 7.5pt; }
  figcaption, caption { font-size: 9pt; }
  nav a { color: inherit; }
}
"""
SHORT = 16  # rows of a table that paper does not divide


def page(title: str, lead: str, sections: list[tuple[str, list[Block]]]) -> str:
    """The whole document: title, contents, sections. It refers to nothing outside itself."""
    contents = "".join(f'<li><a href="#s{k}">{k} {escape(head)}</a></li>' for k, (head, _) in enumerate(sections, 1))
    numbers = {"Figure": 0, "Table": 0}
    body = "".join(
        f'<section><h2 id="s{k}">{k} {escape(head)}</h2>'
        f"{''.join(_html(block, numbers) for block in blocks)}</section>\n"
        for k, (head, blocks) in enumerate(sections, 1)
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f'<body><header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>\n'
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n<main>{body}</main></body></html>\n'
    )


def _html(block: Block, numbers: dict[str, int]) -> str:
    """A block as HTML; figures and tables are counted in `numbers`."""
    match block:
        case Picture():
            return (
                f'<figure id="{escape(block.name)}"><img src="data:image/svg+xml;base64,'
                f'{base64.b64encode(block.svg).decode()}" alt="{escape(block.alt)}">'
                f"<figcaption>{_numbered('Figure', numbers)} {_text(block.caption)} "
                f"(<code>{escape(block.name)}.png</code>)</figcaption></figure>"
            )
        case Table():
            cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in block.head)
            head = f"<thead><tr>{cells}</tr></thead>" if cells else ""
            rows = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in block.rows)
            return (
                f'<div class="table{" short" * (len(block.rows) <= SHORT)}"><table>'
                f"<caption>{_numbered('Table', numbers)} {_text(block.caption)}</caption>"
                f"{head}<tbody>{rows}</tbody></table></div>"
            )
        case Commands():
            lines = (" ".join(f"<span>{escape(word)}</span>" for word in line.split(" ")) for line in block.lines)
            return f"<pre>{chr(10).join(lines)}</pre>"
        case Missing():
            return f'<p class="missing">{_text(block)}</p>'
        case _:
            return f"<p>{_text(block)}</p>"


def _text(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words).replace(" %", "\N{NO-BREAK SPACE}%"))


def _numbered(kind: str, numbers: dict[str, int]) -> str:
    numbers[kind] += 1
    return f"<b>{kind} {numbers[kind]}.</b>"
