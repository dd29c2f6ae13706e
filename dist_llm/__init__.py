"""Train LLaMA-style language models on CPUs with nothing but Python, NumPy and MPI.

The Python interface is what is named here, and `dist_llm.data` for texts. Each name is imported when it is first used,
so that a command loads only what it needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dist_llm import interrupts

if TYPE_CHECKING:
    from dist_llm.config import Config
    from dist_llm.data.loader import Loader
    from dist_llm.errors import RunError, UserError
    from dist_llm.inference.language_model import LanguageModel
    from dist_llm.model.llama import Llama
    from dist_llm.parallel.launcher import connect
    from dist_llm.training.load_run import load
    from dist_llm.training.step import TrainStep

__version__ = "0.2.0"
__all__ = [
    "Config",
    "LanguageModel",
    "Llama",
    "Loader",
    "RunError",
    "TrainStep",
    "UserError",
    "connect",
    "load",
]

_HOMES = {
    "Config": "config",
    "LanguageModel": "inference.language_model",
    "Llama": "model.llama",
    "Loader": "data.loader",
    "RunError": "errors",
    "TrainStep": "training.step",
    "UserError": "errors",
    "connect": "parallel.launcher",
    "load": "training.load_run",
}


if interrupts.is_program():
    interrupts.listen()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
