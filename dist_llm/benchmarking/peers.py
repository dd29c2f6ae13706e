"""What the peers have in common: whether they can take part here, and the tests' models, imported by their path."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import dist_llm
from dist_llm.config import ModelConfig

ORACLES = Path(dist_llm.__file__).parent.parent / "tests" / "oracles"


def not_installed(package: str) -> str | None:
    """Return that a package is missing, and what to do; None if it is there."""
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed (pip install '.[bench]')"
    return None


def why_not(framework: str, config: ModelConfig) -> str | None:
    """Return why ``torch`` or ``jax`` cannot take part; None if it can."""
    if reason := not_installed(framework):
        return reason
    name = f"{framework}_llama.py"
    if not (ORACLES / name).exists():
        return f"the peers' model is tests/oracles/{name}, and no tests folder lies beside the package"
    if config.dropout:
        return "the peers' model has no dropout: compare without --model.dropout"
    return None


def import_oracle(framework: str) -> Any:
    """Import the model of a framework, as the tests are no part of what is installed."""
    name = f"{framework}_llama"
    spec = importlib.util.spec_from_file_location(name, ORACLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # torch.compile looks for it there
    spec.loader.exec_module(module)
    return module
