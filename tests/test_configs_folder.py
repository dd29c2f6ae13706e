"""The files in configs/ are valid, and have the sizes they speak of."""

from pathlib import Path

import pytest

from dist_llm.config import Config
from dist_llm.model.llama import count_parameters
from dist_llm.settings import read_toml, shipped_configs

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))
PARAMETERS = {
    "quickstart": (2048, 1_568_160),
    "shakespeare_char": (65, 1_204_096),
    "shakespeare_char_cpu": (65, 798_616),
    "stories15M": (32000, 15_191_712),
    "stories42M": (32000, 41_689_600),
    "stories110M": (32000, 109_529_856),
    "tinystories260K": (512, 260_032),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_is_valid_and_has_its_size(path):
    config = Config().replace(read_toml(path)).validated()
    vocab_size, parameters = PARAMETERS[path.stem]
    if config.model.vocab_size is not None:
        assert config.model.vocab_size == vocab_size
    assert count_parameters(config.model, vocab_size) == parameters


def test_all_are_here():
    assert {p.stem for p in CONFIGS} == PARAMETERS.keys()
    assert shipped_configs() == sorted(PARAMETERS)
