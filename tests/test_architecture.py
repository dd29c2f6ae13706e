"""The architecture as it is written down, checked by reading the imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dist_llm"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import from itself, from those in its list, and from the files at the base; the commands from all.
BASE = {
    "__init__",
    "errors",
    "interrupts",
    "config",
    "settings",
    "seeding",
    "atomic",
    "file_lock",
    "partition",
    "option",
    "regular_file",
}
ROOMS = {"inference", "interop", "parallel", "data", "optim", "model", "text"}  # of which training is made
ALLOWED = {
    "text": set(),
    "model": set(),
    "fast": {"model", "optim"},
    "data": {"text"},
    "optim": {"model"},
    "parallel": set(),
    "inference": {"parallel", "data", "model", "text"},
    "interop": {"model", "text"},
    "training": {"fast", *ROOMS},
    "explaining": {"inference", "model"},
    "launching": {"training", *ROOMS},
    "baselines": set(),
    "measuring": {"training", *ROOMS},
    "benchmarking": {"measuring", "baselines", "training", "fast", *ROOMS},
    "scalability": {"measuring", "training", "fast", *ROOMS},
}
# The configuration names the strategies that there are, which is why their registry is but data.
DATA = "dist_llm.parallel.registry"


def imports(path: Path) -> set[str]:
    """The dotted names of all modules a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_at_the_top(path: Path) -> set[str]:
    """The packages that importing a file imports."""
    top = ast.parse(path.read_text())
    top.body = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.name.split(".")[0] for node in top.body if isinstance(node, ast.Import) for alias in node.names} | {
        str(node.module).split(".")[0] for node in top.body if isinstance(node, ast.ImportFrom)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    parts = path.relative_to(PACKAGE).parts
    names = {name for name in imports(path) if name.startswith("dist_llm.")}
    if path.name == "config.py":
        names = {name for name in names if not name.startswith(DATA)}
    ours = {name.split(".")[1] for name in names} - {"__version__"}
    if parts == ("__init__.py",):  # the Python interface, of all rooms, but loaded only when it is used
        assert imported_at_the_top(path) == {"importlib", "typing", "dist_llm"}
        assert imported_at_the_top(PACKAGE / "interrupts.py") == {"os", "signal", "sys", "types", "warnings"}
    elif len(parts) > 1:
        assert ours <= {parts[0]} | ALLOWED[parts[0]] | BASE
    elif path.stem in BASE:
        assert ours <= BASE


def test_the_registry_of_strategies_imports_none_of_them():
    top = ast.parse((PACKAGE / "parallel/registry.py").read_text())
    top.body = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {getattr(node, "module", None) or node.names[0].name for node in top.body} == {
        "importlib", "dataclasses", "typing", "numpy",
    }  # fmt: skip


def test_mpi4py_is_imported_in_one_file_only():
    importers = [p.relative_to(PACKAGE).as_posix() for p in FILES if any(n.startswith("mpi4py") for n in imports(p))]
    assert importers == ["parallel/mpi_comm.py"]


def test_nothing_that_runs_imports_a_heavy_framework_or_pickles_files():
    for path in FILES:
        roots = {name.split(".")[0] for name in imports(path)}
        if path.parent.name == "benchmarking":  # each inside the function that needs it
            roots -= {"torch", "jax"} - imported_at_the_top(path)
        if path.parent.name == "fast":  # which is imported where it was asked for
            roots -= {"numba"}
        if path.parent.name != "baselines":
            assert not roots & {"torch", "jax", "tensorflow", "scipy", "numba"}, path
        assert "pickle" not in roots, path


def test_the_package_does_not_know_the_tests():
    for path in FILES:
        assert not any(name.split(".")[0] == "tests" for name in imports(path)), path
        assert "spec_from_file_location" not in path.read_text(), path


def test_files_are_read_in_one_sitting():
    assert {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 300} == {}


def test_random_numbers_come_from_the_seeded_generator_only():
    for path in FILES:
        if path.name != "seeding.py":
            text = path.read_text()
            assert "default_rng" not in text, path
            assert "np.random.seed" not in text, path
            assert "import random" not in text, path
