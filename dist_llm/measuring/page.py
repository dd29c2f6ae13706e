"""A report as one page of HTML that needs nothing else: no network, no script, the pictures inside.

A browser cannot be told to show a table in another way where it does not fit. But how wide it is follows from its
letters: in places that are narrower than that, its rows are cards, in which each figure has its column's name.
"""

import math
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from dist_llm.measuring.plotting import Panel
from dist_llm.measuring.tables import WHOLE, Section

LETTER, PADDING = 0.64, 1.0  # em: a bold letter in the widest of the usual fonts, and what is beside a column


def page(
    title: str, verdict: Sequence[str], warnings: Sequence[str], parts: Sequence[Section], panels: Sequence[Panel]
) -> str:
    """Return the page."""
    loader = PackageLoader("dist_llm.measuring", ".")
    template = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    facts = {"title": title, "verdict": verdict, "warnings": warnings, "panels": panels, "whole": WHOLE}
    facts |= {"parts": [(part, _width_em(part)) for part in parts]}
    return template.get_template("page.html.j2").render(facts) + "\n"


def _width_em(section: Section) -> int:
    """Return how wide a section's table is at least, in the size of its letters."""
    return math.ceil(sum(LETTER * letters + PADDING for letters in section.narrowest())) if section.rows else 0
