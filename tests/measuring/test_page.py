from html.parser import HTMLParser

from dist_llm.measuring.page import page
from dist_llm.measuring.plotting import Panel
from dist_llm.measuring.tables import Section

TABLE = Section(
    "how <fast>", [("point", "tokens/s", ""), ("1x1", "10", "reference"), ("2x1", "19", "")], (0, 2), ["so"]
)


class Outline(HTMLParser):
    """The tags of a page with their attributes, those that are open at its end, and its text."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_verdict_and_warnings_come_first_then_pictures_then_tables():
    outline = Outline(page("title", ["good", "RANKS LOSE"], ["careful"], [TABLE], [Panel("a picture", "<svg></svg>")]))
    assert outline.open == []
    order = ["good", "RANKS LOSE", "careful", "a picture", "how <fast>", "point", "1x1", "so"]
    places = [outline.text.index(word) for word in order]
    assert places == sorted(places)
    assert [p["class"] for p in outline.of("p")] == ["verdict", "verdict bad", "warning", "words"]


def test_tables_say_what_their_cells_are():
    outline = Outline(page("title", [], [], [TABLE], []))
    assert [head.get("scope") for head in outline.of("th")] == ["col"] * 3 + ["row"] * 2
    assert [cell["data-column"] for cell in outline.of("td")] == ["tokens/s", ""] * 2
    (table,), (heading,) = outline.of("table"), outline.of("h2")
    assert table["aria-labelledby"] == heading["id"]
    assert outline.of("figure") == []


def test_a_table_without_rows_is_none():
    assert Outline(page("title", [], [], [Section("method", words=["so"])], [])).of("table") == []
