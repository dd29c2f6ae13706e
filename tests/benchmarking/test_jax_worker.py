"""JAX's model and optimizer are ours: the peer does the same work."""

import numpy as np
import pytest

from dist_llm.benchmarking.jax_worker import prepare
from dist_llm.config import Config, ModelConfig, OptimConfig
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.clip import clip_, global_norm
from dist_llm.seeding import generator

jax = pytest.importorskip("jax")
oracle = pytest.importorskip("tests.oracles.jax_llama")


@pytest.mark.parametrize(("n_kv_heads", "tied"), [(4, True), (2, False)])
def test_loss_gradients_and_an_optimizer_step(n_kv_heads, tied):
    config = ModelConfig(
        dim=16, n_layers=2, n_heads=4, n_kv_heads=n_kv_heads, ffn_dim=24, max_seq_len=12, tie_embeddings=tied,
        init_std=0.3,
    )  # fmt: skip
    model = Llama(config, 30)
    model.params.initialize(generator(5, "weights"))
    tokens = generator(5, "tokens").integers(30, size=(3, 13))
    params = {p.name: jax.numpy.array(p.data) for p in model.params}
    theirs, grads = jax.value_and_grad(oracle.loss)(params, tokens[:, :-1], tokens[:, 1:], config)
    ours, cache = model.loss(tokens[:, :-1], tokens[:, 1:])
    model.loss_backward(1 / 36, cache)
    assert ours / 36 == pytest.approx(float(theirs), rel=1e-5)
    for p in model.params:
        expected = np.asarray(grads[p.name])
        np.testing.assert_allclose(p.grad, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=p.name)

    optim = OptimConfig(grad_clip=0.1)
    clip_(model.params.grad, global_norm(model.params.grad), optim.grad_clip)
    AdamW(model.params, optim).step(1e-2)
    zeros = {name: jax.numpy.zeros_like(p) for name, p in params.items()}
    updated, _, _ = oracle.adamw(params, oracle.clipped(grads, 0.1), zeros, zeros, 1, 1e-2, optim)
    for p in model.params:
        # AdamW's first step is the sign of the gradient, unless that is as small as eps.
        np.testing.assert_allclose(p.data, updated[p.name], rtol=0, atol=1e-4, err_msg=p.name)


def test_a_turn():
    config = Config().replace(
        {
            "model": {"dim": 16, "n_layers": 1, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 8, "vocab_size": 30},
            "train": {"batch_size": 8},
        }
    )
    setup, turn = prepare(config, steps=2)
    assert "jax" in setup
    result = turn()
    assert result["amount"] == 2 * 8 * 8
    assert result["seconds"] > 0
