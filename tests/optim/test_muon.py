"""Muon against PyTorch's, and what ranks make of it together."""

import dataclasses

import numpy as np
import pytest

from dist_llm.config import OptimConfig, ParallelConfig
from dist_llm.errors import UserError
from dist_llm.model.params import ParamStore
from dist_llm.optim import muon
from dist_llm.optim.muon import Muon
from dist_llm.optim.orthogonal import orthogonalize
from dist_llm.optim.registry import boundaries, make_optimizer
from dist_llm.parallel.registry import STRATEGIES, make_strategy
from tests.oracles.cases import case_model

CONFIG = OptimConfig(optimizer="muon", muon_beta2=0.8, muon_lr_factor=5, muon_momentum=0.9, muon_weight_decay=0.3)
STEPS = 10


def exactly_orthogonal(x: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    return u @ vt


def exactly(x: np.ndarray, out: np.ndarray) -> None:
    out[...] = exactly_orthogonal(x)


def gradient(params: ParamStore, step: int) -> np.ndarray:
    return np.random.default_rng(step).standard_normal(params.size).astype(params.data.dtype)


def lr_of(step: int) -> float:
    return 0.01 / (1 + step)


def torch_muon(params: ParamStore, monkeypatch) -> np.ndarray:
    """Ten steps of PyTorch's Muon, whose Newton-Schulz iteration, in bfloat16, gives way to the exact thing."""
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("torch.optim._muon")
    monkeypatch.setattr(
        module,
        "_zeropower_via_newtonschulz",
        lambda x, *_: torch.from_numpy(exactly_orthogonal(x.numpy())),
    )
    matrices = [p for p in params.matrices() if p.role == "hidden"]
    tensors = [torch.nn.Parameter(torch.tensor(p.data)) for p in matrices]
    optimizer = torch.optim.Muon(
        tensors, lr=1.0, weight_decay=CONFIG.muon_weight_decay, momentum=CONFIG.muon_momentum, nesterov=True
    )
    for step in range(STEPS):
        grad = gradient(params, step)
        for p, tensor in zip(matrices, tensors, strict=True):
            tensor.grad = torch.from_numpy(grad[p.slice].reshape(p.shape))
        for group in optimizer.param_groups:
            group["lr"] = lr_of(step) * CONFIG.muon_lr_factor
        optimizer.step()
    data = params.data.copy()
    for p, tensor in zip(matrices, tensors, strict=True):
        data[p.slice] = tensor.detach().numpy().ravel()
    return data


def test_ten_steps_are_those_of_pytorch(monkeypatch):
    params = case_model("untied-grouped", np.float64).params
    expected = torch_muon(params, monkeypatch)
    assert all((expected[p.slice] != p.data.ravel()).all() for p in params if p.role == "hidden")
    monkeypatch.setattr(muon, "orthogonalize", exactly)
    optimizer = Muon(params, dataclasses.replace(CONFIG, muon_beta2=1.0), None, ["hidden"])
    for step in range(STEPS):
        params.grad[...] = gradient(params, step)
        optimizer.prepare()
        optimizer.step(lr_of(step))
    for p in params:
        np.testing.assert_allclose(p.data, expected[p.slice].reshape(p.shape), rtol=0, atol=1e-10, err_msg=p.name)


def plain_normuon(p, g, m, v, lr):
    """NorMuon as its paper has it, on float64 arrays, but for the length of the update, which stays that of Muon's."""
    m = 0.9 * m + 0.1 * g
    u = exactly_orthogonal(0.9 * m + 0.1 * g)
    axis = 0 if p.shape[1] > p.shape[0] else 1
    v = 0.8 * v + 0.2 * np.square(u).mean(axis, keepdims=True)
    normalized = u / np.sqrt(v)
    normalized *= np.linalg.norm(u) / np.linalg.norm(normalized)
    return p * (1 - lr * 0.3) - lr * max(1, p.shape[0] / p.shape[1]) ** 0.5 * normalized, m, v


def test_rows_are_made_equal_as_in_normuon(monkeypatch):
    params = case_model("untied-grouped", np.float64).params
    monkeypatch.setattr(muon, "orthogonalize", exactly)
    optimizer = Muon(params, CONFIG, None, ["hidden"])
    matrices = [p for p in params.matrices() if p.role == "hidden"]
    plain = [(p.data.copy(), 0.0, 0.0) for p in matrices]
    for step in range(STEPS):
        params.grad[...] = gradient(params, step)
        optimizer.prepare()
        optimizer.step(lr_of(step))
        for i, p in enumerate(matrices):
            plain[i] = plain_normuon(plain[i][0], p.grad, *plain[i][1:], lr_of(step) * CONFIG.muon_lr_factor)
            np.testing.assert_allclose(p.data, plain[i][0], rtol=0, atol=1e-6, err_msg=f"matrix {i}")


def steps(params: ParamStore, optimizer, strategy, first: int, last: int) -> None:
    for step in range(first, last):
        strategy.begin()
        params.grad[...] = gradient(params, step) / strategy.comm.size
        strategy.on_grad_ready(0)
        strategy.reduce()

        def update(step: int = step) -> None:
            optimizer.prepare()
            optimizer.step(lr_of(step))

        strategy.update(update, sync=True)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "local"])
def test_ranks_do_what_one_process_does_and_go_on_from_its_state(comm, name):
    alone, params = case_model("untied-grouped").params, case_model("untied-grouped").params
    expected = make_optimizer(alone, CONFIG)
    cuts = boundaries(params, CONFIG)
    strategy = make_strategy(comm, params.data, params.grad, ParallelConfig(strategy=name), cuts)
    optimizer = make_optimizer(params, CONFIG, strategy)
    for step in range(6):
        alone.grad[...] = gradient(alone, step)
        expected.prepare()
        expected.step(lr_of(step))
        if step == 2:
            half = {name: array.copy() for name, array in expected.state_dict().items()}
            weights = alone.data.copy()
    steps(params, optimizer, strategy, 0, 6)
    np.testing.assert_allclose(params.data, alone.data, rtol=0, atol=2e-5)
    state = optimizer.state_dict()
    assert (state == {}) == (comm.rank > 0)
    for name, array in state.items():
        np.testing.assert_allclose(array, expected.state_dict()[name], rtol=1e-3, atol=1e-5, err_msg=name)
    params.data[...] = weights
    optimizer.load_state_dict(half if comm.rank == 0 else {})
    steps(params, optimizer, strategy, 3, 6)
    np.testing.assert_allclose(params.data, alone.data, rtol=0, atol=2e-5)
    strategy.close()


def test_each_matrix_is_orthogonalized_once_among_ranks_that_would_do_the_same(comm, monkeypatch):
    done = []
    monkeypatch.setattr(muon, "orthogonalize", lambda x, out: done.append(x.shape) or orthogonalize(x, out))
    params = case_model("untied-grouped").params
    strategy = make_strategy(comm, params.data, params.grad, ParallelConfig(strategy="blocking"))
    optimizer = make_optimizer(params, CONFIG, strategy)
    optimizer.prepare()
    of_all = sorted(shape for shapes in comm.allgather(done) for shape in shapes)
    assert of_all == sorted(p.shape for p in params.matrices() if p.role == "hidden")
    assert len(done) >= len(of_all) // comm.size - 2


def test_nothing_has_changed_when_ranks_die_while_they_share():
    params = case_model("tied").params

    class Dying:
        shard = slice(None)

        def new_state(self, name, size, dtype):
            return np.zeros(size, dtype)

        def share(self, shapes, costs, compute, dtype):
            for index, shape in enumerate(shapes):
                compute(index, np.empty(shape, dtype))
            raise KeyboardInterrupt

    optimizer = make_optimizer(params, CONFIG, Dying())
    params.grad[...] = gradient(params, 0)
    data, grad = params.data.copy(), params.grad.copy()
    with pytest.raises(KeyboardInterrupt):
        optimizer.prepare()
    assert np.array_equal(params.data, data)
    assert np.array_equal(params.grad, grad)


def test_the_state_of_another_optimizer_is_refused():
    params = case_model("tied").params
    state = make_optimizer(params, dataclasses.replace(CONFIG, optimizer="adamw")).state_dict()
    with pytest.raises(
        UserError, match=r"of another model or optimizer: muon_momentum\.model\.layers\.0\..* is missing, not"
    ):
        Muon(params, CONFIG, None, ["hidden"]).load_state_dict(state)


def test_gate_and_up_are_one_matrix_that_no_shard_divides():
    params = case_model("untied-grouped").params
    shapes = {p.name.rsplit(".", 2)[-2]: p.shape for p in params if p.role == "hidden"}
    (n_rows, n_columns), n_layers = shapes["gate_proj"], sum("gate_proj" in p.name for p in params)
    joined = [p for p in params.matrices() if p.shape == (2 * n_rows, n_columns)]
    assert len(joined) == n_layers
    gates, ups = ([p for p in params if f"{part}_proj" in p.name] for part in ("gate", "up"))
    for whole, gate, up in zip(joined, gates, ups, strict=True):
        assert np.array_equal(whole.data, np.concatenate([gate.data, up.data]))
        assert np.shares_memory(whole.grad, gate.grad)
        assert np.shares_memory(whole.grad, up.grad)
    cuts = boundaries(params, CONFIG)
    assert {p.offset for p in gates} <= cuts.keys()
    assert not {p.offset for p in ups} & cuts.keys()
