"""JAX's model and optimizer are ours: the baseline does the same work."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dist_llm.benchmarking import training_jax
from dist_llm.benchmarking.contestants import contestants
from dist_llm.benchmarking.training_jax import Way
from dist_llm.benchmarking.turn import batches
from dist_llm.config import Config
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.clip import clip_, global_norm
from dist_llm.seeding import generator

SMALL = {"dim": 16, "n_layers": 2, "n_heads": 4, "ffn_dim": 24, "max_seq_len": 12, "vocab_size": 30, "init_std": 0.3}
# An eps so large that AdamW does not blow up the rounding of gradients near 0.
CONFIG = Config().replace(
    {"model": SMALL | {"n_layers": 1}, "train": {"batch_size": 8}, "optim": {"lr": 1e-2, "eps": 1e-3}}
)
TASK = """
from dist_llm.benchmarking.training_jax import make
from dist_llm.benchmarking.turn import Job
from dist_llm.config import Config
model = {"dim": 16, "n_layers": 1, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 8, "vocab_size": 30}
config = Config().replace({"model": model, "train": {"batch_size": 4}})
setup, turn = make(Job(config, 2, 1, 2, ""))
print(setup)
print(turn().amount)
"""


@pytest.fixture(scope="module", autouse=True)
def jax() -> Iterator[Any]:
    """JAX on two devices, without a lasting change of the environment."""
    jax = pytest.importorskip("jax")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
        assert jax.device_count() == 2
        yield jax


@pytest.mark.parametrize(("n_kv_heads", "tied"), [(4, True), (2, False)])
def test_loss_and_gradient_of_every_tensor(jax, n_kv_heads, tied):
    config = Config().replace({"model": SMALL | {"n_kv_heads": n_kv_heads, "tie_embeddings": tied}}).model
    model = Llama(config, 30)
    rng = generator(5, "weights")
    model.params.initialize(rng)
    for p in model.params:
        if p.init_std is None:  # gains of norms
            p.data[...] = rng.uniform(0.5, 1.5, p.shape)
    window = generator(5, "tokens").integers(30, size=(3, 13), dtype=np.int32)
    tokens, targets = window[:, :-1], window[:, 1:]
    from dist_llm.baselines import jax_llama

    params = {p.name: jax.numpy.array(p.data) for p in model.params}
    theirs, grads = jax.jit(jax.value_and_grad(jax_llama.loss), static_argnums=3)(params, tokens, targets, config)
    ours, cache = model.loss(tokens, targets)
    model.loss_backward(1 / targets.size, cache)
    assert ours / targets.size == pytest.approx(float(theirs), rel=1e-5)
    for p in model.params:
        expected = np.asarray(grads[p.name])
        np.testing.assert_allclose(p.grad, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=p.name)


@pytest.mark.parametrize(("way", "grad_clip"), [(Way(1, 8, True), 0.5), (Way(1, 4, True), 0.0), (Way(2, 1, True), 0.0)])
def test_steps_are_ours_whatever_the_way(way, grad_clip):
    config = CONFIG.replace({"optim": {"grad_clip": grad_clip}})
    baseline = training_jax._Baseline(config, way)
    model = Llama(config.model, 30)
    model.params.initialize(generator(config.train.seed, "weights"))
    optimizer = AdamW(model.params, config.optim)
    for step in range(2):
        tokens, targets = batches(config).batch(step)
        model.params.grad[...] = 0
        _, cache = model.loss(tokens, targets)
        model.loss_backward(1 / targets.size, cache)
        norm = global_norm(model.params.grad)
        assert norm > grad_clip  # so that clipping, if there is any, is at work
        clip_(model.params.grad, norm, grad_clip)
        optimizer.step(config.optim.lr)
        baseline.step()
        params, m, v = baseline._state
        for p in model.params:
            np.testing.assert_allclose(p.data, params[p.name], rtol=0, atol=1e-6, err_msg=p.name)
            for got, expected in ((m, optimizer.m), (v, optimizer.v)):
                expected = expected[p.slice].reshape(p.shape)
                np.testing.assert_allclose(
                    got[p.name], expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=p.name
                )


def test_a_turn_and_not_a_word_from_jax(jax, run):
    result = run(0, "-c", TASK)
    assert (result.returncode, result.stderr) == (0, "")
    setup, amount = result.stdout.splitlines()
    assert f"jax {jax.__version__}" in setup
    assert int(amount) == 2 * 4 * 8  # steps, sequences, tokens


def test_why_not(monkeypatch):
    contestant = next(c for c in contestants(2, 2) if c.name == "jax-jit-all")
    assert contestant.why_not(CONFIG) is None
    assert "without --model.dropout" in contestant.why_not(CONFIG.replace({"model": {"dropout": 0.1}}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert contestant.why_not(CONFIG) == "jax is not installed (pip install 'dist_llm[bench]')"
