"""What every page of the course promises: its parts, in their order, and no more than a quarter of an hour."""

import math
import re
from pathlib import Path

import pytest

from docs.course.draw import PICTURES, draw, names
from tests.conftest import ROOT
from tests.course.short_run import short_run

COURSE = ROOT / "docs/course"
PAGES = sorted(COURSE.glob("[0-9]*.md"))
LABS = sorted((COURSE / "labs").glob("*.md"))
WORDS_PER_MINUTE, MINUTES = 130, 15  # of text with formulas and code
PARTS = (
    "The equation",
    ("Its derivative", "Why it works"),
    "The code",
    "Try it",
    "Before you run it",
    "Exercise",
    "Read on",
)
LAB_PARTS = ("Predict", "Do it", "What it shows", "Go on")


def headings(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts(page: Path):
    text = page.read_text()
    assert len(headings(page)) == len(PARTS)
    for heading, wanted in zip(headings(page), PARTS, strict=True):
        assert heading == wanted or heading in wanted
    assert "```{literalinclude}" in text.partition("## The code")[2].partition("## Try it")[0]
    answer = re.findall(r"<details><summary>(The answer, (?:measured|computed))</summary>", text)
    assert len(answer) == 1
    assert text.count("<details><summary>A solution</summary>") == 1
    for part in (*answer, "A solution"):
        assert "```" in text.partition(f"<summary>{part}</summary>")[2].partition("</details>")[0], "not only told"
    (picture,) = re.findall(r"!\[.{20,}\]\(pictures/(\w+)\.svg\)", text)
    assert f"[How it is drawn](pictures/{picture}.py)" in " ".join(text.split())


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_a_lab_has_its_parts_and_ends_in_a_picture(lab: Path):
    assert headings(lab) == list(LAB_PARTS)
    assert "savefig" in lab.read_text()
    assert "mpirun" in lab.read_text() or "dist-llm launch" in lab.read_text()


@pytest.mark.parametrize("page", [*PAGES, *LABS], ids=lambda page: page.stem)
def test_a_page_takes_a_quarter_of_an_hour_at_most(page: Path):
    assert len(page.read_text().split()) <= WORDS_PER_MINUTE * MINUTES


@pytest.mark.parametrize("page", [*PAGES, *LABS, COURSE / "index.md"], ids=lambda page: page.stem)
def test_code_is_included_and_never_copied(page: Path):
    shown = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    own = {re.sub(r"^(>>>|\.\.\.) *", "", line).strip() for block in shown for line in block.splitlines()}
    source = "\n".join(path.read_text() for path in (ROOT / "dist_llm").rglob("*.py"))
    assert not [line for line in own if len(line) > 40 and line in source and " import " not in line]


@pytest.mark.parametrize("name", names())
def test_a_picture_is_drawn_by_its_script(tmp_path: Path, name: str):
    pytest.importorskip("matplotlib")
    draw(short_run(), [name], tmp_path)
    assert (tmp_path / f"{name}.svg").read_text().startswith("<svg")


def test_every_picture_has_a_script_and_is_small():
    pictures = list(PICTURES.glob("*.svg"))
    assert sorted(picture.stem for picture in pictures) == names()
    assert all(picture.stat().st_size < 200_000 for picture in pictures)


def test_the_index_leads_to_every_page_and_says_how_long_it_takes():
    index = (COURSE / "index.md").read_text()
    rows = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\.md\) \| (\d+) \|$", index, re.MULTILINE)
    wanted = []
    for page in (*PAGES, *LABS):
        text = page.read_text()
        title = re.sub(r"^# (Lab \d: )?", "", text.splitlines()[0])
        minutes = math.ceil(len(text.split()) / WORDS_PER_MINUTE)
        number = str(int(re.match(r"\d+", page.name)[0]))
        wanted.append((number, title, str(page.relative_to(COURSE).with_suffix("")), str(minutes)))
    assert rows == wanted
    listed = index.partition("```{toctree}")[2].split()[1:-1]
    assert listed == [name for _, _, name, _ in wanted]
