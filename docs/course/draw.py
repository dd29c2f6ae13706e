"""Draw the course's pictures from a run: python -m docs.course.draw RUN [NAME ...].

Each file of ``pictures/`` has a function `draw`, which is given the run's model and returns what is to be drawn. The
pictures lie beside them, as SVG that suits light and dark screens.
"""

import sys
from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path

import dist_llm
from dist_llm.measuring import plotting

PICTURES = Path(__file__).parent / "pictures"


def names() -> list[str]:
    """Return the names of all pictures."""
    return sorted(path.stem for path in PICTURES.glob("[a-z]*.py"))


def draw(run_dir: Path, names: Sequence[str], folder: Path) -> None:
    """Draw those pictures into a folder."""
    model = dist_llm.load(run_dir)
    for name in names:
        drawing = import_module(f"docs.course.pictures.{name}").draw(model)
        picture = plotting.draw([drawing])
        if picture is None:
            raise SystemExit("matplotlib is missing: pip install '.[docs]'")
        (folder / f"{name}.svg").write_text(_file(picture.panels[0].svg), encoding="utf-8")


def _file(svg: str) -> str:
    """Return an ``<svg>`` of a page as a file of its own, with its own paper."""
    colors = resources.files("dist_llm.measuring").joinpath("colors.css").read_text()
    style = f"{colors}svg {{ color: var(--ink); background: var(--paper); font-family: system-ui, sans-serif }}"
    head, _, rest = svg.partition(">")
    return f"{head}>\n<style>{style}</style>{rest}\n"


if __name__ == "__main__":
    run, *wanted = sys.argv[1:]
    draw(Path(run), wanted or names(), PICTURES)
