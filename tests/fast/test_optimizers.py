"""The compiled optimizers do what the plain ones do, in every bit."""

import numpy as np
import pytest

from dist_llm.config import ModelConfig, OptimConfig
from dist_llm.fast.selection import missing, optimizers_of
from dist_llm.model.llama import Llama
from dist_llm.optim.registry import make_optimizer

if lacking := missing("float32-compiled"):
    pytest.skip(lacking, allow_module_level=True)


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_ten_steps_are_equal_in_every_bit(name, weight_decay):
    config = OptimConfig(optimizer=name, weight_decay=weight_decay, muon_weight_decay=weight_decay)
    results = []
    for compiled in ({}, optimizers_of("float32-compiled")):
        model = Llama(ModelConfig(dim=54, n_layers=2, n_heads=3, ffn_dim=99, max_seq_len=8), 1001)
        rng = np.random.default_rng(3)
        model.params.initialize(rng)
        optimizer = make_optimizer(model.params, config, compiled=compiled)
        for _ in range(10):
            model.params.grad[:] = rng.standard_normal(model.params.size)
            optimizer.prepare()
            optimizer.step(0.01)
        results.append((model.params.data, optimizer.state_dict()))
    (plain, plain_state), (fast, fast_state) = results
    assert np.array_equal(plain, fast)
    assert plain_state.keys() == fast_state.keys()
    assert all(np.array_equal(plain_state[key], fast_state[key]) for key in plain_state)
