"""dist_llm against PyTorch: through the golden files, which need no PyTorch, and live where it is installed."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dist_llm.config import ModelConfig
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.clip import clip_, global_norm
from dist_llm.optim.schedule import learning_rate
from tests.oracles.cases import CASES, OPTIM, STEPS, VOCAB, case_batch, case_model

GOLDEN = Path(__file__).parent.parent / "golden"


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def train_ten_steps(model: Llama) -> list[float]:
    optimizer = AdamW(model.params, OPTIM)
    losses = []
    for step in range(STEPS):
        tokens, targets = case_batch(step)
        model.params.grad[...] = 0
        loss, cache = model.loss(tokens, targets)
        model.loss_backward(1 / tokens.size, cache)
        clip_(model.params.grad, global_norm(model.params.grad), OPTIM.grad_clip)
        optimizer.step(learning_rate(step, STEPS, OPTIM))
        losses.append(loss / tokens.size)
    return losses


def golden_model(name: str) -> tuple[Llama, dict[str, np.ndarray]]:
    golden = load_file(GOLDEN / f"{name}.safetensors")
    model = Llama(CASES[name], VOCAB)
    assert {f"weight.{p.name}" for p in model.params} == {k for k in golden if k.startswith("weight.")}
    for param in model.params:
        param.data[...] = golden[f"weight.{param.name}"]
    return model, golden


@pytest.mark.parametrize("name", CASES)
def test_loss_logits_and_every_gradient_equal_the_golden_file(name):
    model, golden = golden_model(name)
    tokens, targets = golden["tokens"], golden["targets"]
    loss, cache = model.loss(tokens, targets)
    model.loss_backward(1 / tokens.size, cache)
    assert loss / tokens.size == pytest.approx(float(golden["loss"]), rel=1e-5)
    assert relative(model.logits(tokens), golden["logits"]) < 1e-5
    for param in model.params:
        assert relative(param.grad, golden[f"grad.{param.name}"]) < 1e-5, param.name


@pytest.mark.parametrize("name", CASES)
def test_ten_golden_losses(name):
    expected = json.loads((GOLDEN / f"{name}.json").read_text())["losses"]
    losses = train_ten_steps(golden_model(name)[0])
    assert losses[-1] < losses[0] - 0.3  # it does learn
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_live_torch_agrees_with_the_golden_files(name):
    pytest.importorskip("torch")
    import torch

    from tests.oracles.make_golden import torch_losses, torch_results

    golden = load_file(GOLDEN / f"{name}.safetensors")
    results = torch_results(name, torch.float64)
    assert {k for k in golden if k.startswith("grad.")} == {k for k in results if k.startswith("grad.")}
    for key, value in results.items():
        assert relative(value, golden[key]) < 1e-6, key
    np.testing.assert_allclose(train_ten_steps(case_model(name)), torch_losses(name), rtol=1e-4)


def test_default_model_equals_torch_in_every_tensor():
    torch = pytest.importorskip("torch")
    from dist_llm.baselines.torch_llama import TorchLlama
    from tests.oracles.make_golden import load_weights

    model = Llama(ModelConfig(), 512)
    rng = np.random.default_rng(5)
    model.params.initialize(rng)
    oracle = TorchLlama(ModelConfig(), 512)
    load_weights(oracle, model.params)
    window = rng.integers(0, 512, (2, 257))
    tokens, targets = window[:, :-1], window[:, 1:]
    loss, cache = model.loss(tokens, targets)
    model.loss_backward(1 / tokens.size, cache)
    torch_loss = oracle.loss(torch.from_numpy(tokens), torch.from_numpy(targets))
    torch_loss.backward()
    assert loss / tokens.size == pytest.approx(torch_loss.item(), rel=1e-5)
    assert relative(model.logits(tokens), oracle(torch.from_numpy(tokens)).detach().numpy()) < 1e-5
    for name, parameter in oracle.named_parameters():
        assert relative(model.params[name].grad, parameter.grad.numpy()) < 1e-5, name
