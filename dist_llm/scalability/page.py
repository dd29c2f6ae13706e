"""The report as one page of HTML that needs nothing else: no network, no script, the picture inside."""

import html
import re
from collections.abc import Sequence

from dist_llm.scalability.section import Row, Section

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .5rem; }
.verdict { background: #eef6ee; border-left: 4px solid #2e7d32; padding: .6rem 1rem; margin: .4rem 0; }
.verdict.bad { background: #fdecea; border-color: #c62828; }
.warning { background: #fff8e1; border-left: 4px solid #f9a825; padding: .6rem 1rem; margin: .4rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap; }
th { border-bottom: 2px solid #9aa4af; vertical-align: bottom; font-weight: 600; white-space: normal; }
.left { text-align: left; }
tr.reference td { background: #f4f7fb; } tr.over td { color: #8a929b; }
p { margin: .45rem 0; } p.words { color: #454d56; font-size: .9rem; }
svg { width: 100%; height: auto; }
""".strip()


def page(title: str, verdict: Sequence[str], warnings: Sequence[str], parts: Sequence[Section], picture: str) -> str:
    """Return the page.

    Parameters
    ----------
    title : str
    verdict, warnings : sequence of str
    parts : sequence of Section
    picture : str
        An SVG document; "" for none.
    """
    svg = re.sub(r"^.*?(?=<svg)", "", picture, flags=re.DOTALL)
    body = [
        f"<h1>{html.escape(title)}</h1>",
        *(f'<p class="verdict{" bad" * line.startswith("RANKS LOSE")}">{html.escape(line)}</p>' for line in verdict),
        *(f'<p class="warning">{html.escape(line)}</p>' for line in warnings),
        svg,
        *(_section(part) for part in parts),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _section(part: Section) -> str:
    lines = [f"<h2>{html.escape(part.title)}</h2>"]
    if part.rows:
        head, *rows = part.rows
        lines += [
            '<div class="table"><table>',
            f"<thead><tr>{_cells(head, 'th', part.left)}</tr></thead>",
            "<tbody>",
            *(f"<tr{_kind(row)}>{_cells(row, 'td', part.left)}</tr>" for row in rows),
            "</tbody></table></div>",
        ]
    lines += [f'<p class="words">{html.escape(line)}</p>' for line in part.words]
    return "\n".join(lines)


def _kind(row: Row) -> str:
    if "oversubscribed" in row[-1]:
        return ' class="over"'
    return ' class="reference"' if "reference" in row[-1] else ""


def _cells(row: Row, tag: str, left: Sequence[int]) -> str:
    return "".join(
        f"<{tag}{' class=left' * (column in left)}>{html.escape(cell)}</{tag}>" for column, cell in enumerate(row)
    )
