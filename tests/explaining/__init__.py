"""A model to look at."""

import numpy as np

from dist_llm.config import Config, ModelConfig
from dist_llm.inference.language_model import LanguageModel
from dist_llm.model.llama import Llama
from dist_llm.text import Tokenizer, train_tokenizer

BYTE = train_tokenizer("byte", [], 0)


def language_model(tokenizer: Tokenizer = BYTE, dtype: type = np.float32, **changes: object) -> LanguageModel:
    """One that is not trained, but far from saying the same of all tokens."""
    shape = {"dim": 24, "n_layers": 3, "n_heads": 4, "ffn_dim": 32, "max_seq_len": 64, "init_std": 0.3}
    config = ModelConfig(**(shape | changes))
    model = Llama(config, changes.get("vocab_size") or tokenizer.vocab_size, dtype)
    model.params.initialize(np.random.default_rng(0))
    return LanguageModel(model, tokenizer, Config())
