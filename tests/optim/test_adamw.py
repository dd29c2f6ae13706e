import numpy as np
import pytest

from dist_llm.config import OptimConfig
from dist_llm.model.params import ParamStore
from dist_llm.optim.adamw import AdamW
from tests.oracles.plain import plain_adamw


@pytest.mark.parametrize("chunk", [1 << 14, 7])
def test_many_steps_equal_the_plain_update(monkeypatch, chunk):
    monkeypatch.setattr(AdamW, "chunk", chunk)
    rng = np.random.default_rng(0)
    store = ParamStore()
    store.declare("matrix", (5, 6), "hidden", 1.0)
    store.declare("gain", (6,), "gain", None)
    store.declare("table", (9, 4), "embedding", 1.0)
    store.allocate(np.float64)
    store.initialize(rng)
    config = OptimConfig(weight_decay=0.3, beta1=0.8, beta2=0.9, eps=1e-3)
    optimizer = AdamW(store, config)
    plain = {p.name: (p.data.copy(), np.zeros(p.shape), np.zeros(p.shape)) for p in store}
    for t in range(1, 6):
        lr = 0.1 / t
        store.grad[...] = rng.standard_normal(store.size)
        for p in store:
            decay = 0.0 if p.name == "gain" else 0.3
            plain[p.name] = plain_adamw(plain[p.name][0], p.grad, *plain[p.name][1:], t, lr, 0.8, 0.9, 1e-3, decay)
        optimizer.step(lr)
        for p in store:
            for got, expected in zip((store.data, optimizer.m, optimizer.v), plain[p.name], strict=True):
                np.testing.assert_allclose(got[p.slice].reshape(p.shape), expected, rtol=1e-12, err_msg=p.name)
