"""A report as one page of HTML that needs nothing else: no network, no script, the picture inside."""

import re
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from dist_llm.measuring.tables import Section


def page(title: str, verdict: Sequence[str], warnings: Sequence[str], parts: Sequence[Section], picture: str) -> str:
    """Return the page; `picture` is an SVG document, or "" for none."""
    loader = PackageLoader("dist_llm.measuring", ".")
    template = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    svg = re.sub(r"^.*?(?=<svg)", "", picture, flags=re.DOTALL)
    facts = {"title": title, "verdict": verdict, "warnings": warnings, "parts": parts, "svg": svg}
    return template.get_template("page.html.j2").render(facts) + "\n"
