from pathlib import Path

import pytest

from docs.course.draw import train_run
from tests.conftest import ROOT
from tests.measuring.browser import start_browser

browser = pytest.fixture(start_browser, scope="session")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("runs") / "run-001", steps=10)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course as Sphinx builds it; what it warns of is an error."""
    build = pytest.importorskip("sphinx.cmd.build")
    folder = tmp_path_factory.mktemp("site")
    arguments = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    assert build.main([*arguments, str(ROOT / "docs/course"), str(folder / "html")]) == 0
    return folder / "html"
