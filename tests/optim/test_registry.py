"""Optimizers chosen by the role of a parameter, one or several side by side, whole or sharded."""

import numpy as np
import pytest

from dist_llm.config import OptimConfig, ParallelConfig
from dist_llm.model.params import ROLES, ParamStore
from dist_llm.optim import registry
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.registry import boundaries, make_optimizer
from dist_llm.optim.sharding import Unsharded
from dist_llm.parallel.registry import make_strategy
from tests.oracles.cases import CASES, case_model

CONFIG = OptimConfig(optimizer="adamw", weight_decay=0.3)


class SignOfMomentum:
    """Another optimizer, which needs whole tensors: the sign of each tensor's mean momentum decides (no good)."""

    whole_tensors = True

    def __init__(self, params, config, sharding, roles):
        self.params, self.sharding = params, sharding or Unsharded()
        first, last, _ = self.sharding.shard.indices(params.size)
        mine = [p for p in params if p.role in roles]
        self.own = [p for p in mine if first <= p.slice.start and p.slice.stop <= last]
        assert all(p in self.own or p.slice.stop <= first or last <= p.slice.start for p in mine), "a tensor is cut"
        self.tensors = mine
        self.momentum = self.sharding.new_state("sign", sum(p.size for p in self.own), params.data.dtype)

    def prepare(self):
        pass

    @staticmethod
    def cost(param):
        return float(param.size)

    def step(self, lr):
        start = 0
        for p in self.own:
            momentum = self.momentum[start : start + p.size]
            momentum += self.params.grad[p.slice]
            p.data -= lr * np.sign(momentum.mean())
            start += p.size

    def state_dict(self):
        whole = self.sharding.gather(self.momentum)
        if whole is None:
            return {}
        parts = np.split(whole, np.cumsum([p.size for p in self.tensors])[:-1])
        return {f"sign.{p.name}": part for p, part in zip(self.tensors, parts, strict=True)}

    def load_state_dict(self, state):
        whole = np.concatenate([state[f"sign.{p.name}"] for p in self.tensors]) if state else None
        self.sharding.scatter(whole, self.momentum)


@pytest.fixture
def another_for_hidden_matrices(monkeypatch):
    monkeypatch.setitem(registry.OPTIMIZERS["adamw"], "hidden", SignOfMomentum)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_has_a_role(name):
    roles = {p.name: p.role for p in case_model(name).params}
    assert set(roles.values()) <= set(ROLES)
    assert roles["model.embed_tokens.weight"] == "embedding"
    assert roles["model.norm.weight"] == roles["model.layers.0.input_layernorm.weight"] == "gain"
    assert roles["model.layers.1.self_attn.k_proj.weight"] == roles["model.layers.1.mlp.down_proj.weight"] == "hidden"
    assert roles.get("lm_head.weight") == (None if CASES[name].tie_embeddings else "head")


def test_one_optimizer_for_all_roles_is_that_optimizer():
    params = case_model("tied").params
    assert isinstance(make_optimizer(params, CONFIG), AdamW)
    assert boundaries(params, CONFIG) is None


def train(params: ParamStore, optimizer, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        params.grad[...] = rng.standard_normal(params.size)
        optimizer.step(0.01)


def test_several_side_by_side_each_update_their_own(another_for_hidden_matrices):
    model, alone = case_model("untied-grouped"), case_model("untied-grouped")
    start = model.params.data.copy()
    train(model.params, make_optimizer(model.params, CONFIG), 3, seed=1)
    train(alone.params, AdamW(alone.params, CONFIG), 3, seed=1)
    for p, q in zip(model.params, alone.params, strict=True):
        change = (p.data.ravel() - start[p.slice]) / 0.01
        if p.role == "hidden":
            assert np.allclose(change, change[0], atol=1e-3)
            assert not np.array_equal(p.data, q.data)
        else:
            assert np.array_equal(p.data, q.data), p.name  # the moments of AdamW are as long as what it updates
    cuts = boundaries(model.params, CONFIG)
    assert list(cuts) == [*(p.offset for p in model.params.matrices()), model.params.size]
    assert list(cuts.values()) == sorted(cuts.values())


def test_shards_of_whole_tensors_do_what_one_process_does(comm, another_for_hidden_matrices):
    params = case_model("tied").params
    cuts = boundaries(params, CONFIG)
    strategy = make_strategy(comm, params.data, params.grad, ParallelConfig(strategy="sharded"), cuts)
    optimizer = make_optimizer(params, CONFIG, strategy)
    alone = case_model("tied").params
    expected = make_optimizer(alone, CONFIG)
    rng = np.random.default_rng(3)

    def step() -> None:
        gradient = rng.standard_normal(params.size).astype(np.float32)
        strategy.begin()
        params.grad[...] = gradient / comm.size
        strategy.reduce()
        strategy.update(lambda: optimizer.step(0.01), sync=False)
        alone.grad[...] = gradient
        expected.step(0.01)

    for _ in range(3):
        step()
    np.testing.assert_allclose(params.data, alone.data, rtol=0, atol=1e-6)
    state, whole = optimizer.state_dict(), expected.state_dict()
    assert (state == {}) == (comm.rank > 0)
    for name, array in state.items():
        np.testing.assert_allclose(array.ravel(), whole[name].ravel(), rtol=1e-4, atol=1e-6, err_msg=name)
    assert comm.rank > 0 or state.keys() == whole.keys()
    # A checkpoint of one process goes on here.
    optimizer.load_state_dict(whole if comm.rank == 0 else {})
    params.data[...] = alone.data
    step()
    np.testing.assert_allclose(params.data, alone.data, rtol=0, atol=1e-6)
