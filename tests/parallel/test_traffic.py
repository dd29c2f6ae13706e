import pytest

from dist_llm.config import Config
from dist_llm.parallel.cost import MEMORY
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.parallel.topology import Topology

P = 2_312_256
MODES = [
    ("blocking", "float32", ("all-reduce", 4 * P, 1, 1, False)),
    ("blocking", "bfloat16", ("all-to-all, all-gather", 2 * P, 1, 1, False)),
    ("deterministic", "float32", ("all-reduce", 8 * P, 1, 1, False)),
    ("sharded", "float32", ("reduce-scatter, all-gather", 4 * P, 1, 1, False)),
    ("overlapped", "float32", ("nonblocking all-reduce", 513_835, 18, 1, True)),
    ("local", "float32", ("all-to-all, all-gather", 4 * P, 1, 20, False)),
]


@pytest.mark.parametrize(("strategy", "reduce_dtype", "expected"), MODES)
def test_what_a_step_of_the_default_model_sends(strategy, reduce_dtype, expected):
    config = Config().replace({"parallel": {"strategy": strategy, "reduce_dtype": reduce_dtype}}).parallel
    t = STRATEGIES[strategy].load().traffic(config, P, Topology(2, 1, MEMORY))
    assert (t.operation, t.message_bytes, t.messages, t.every_steps, t.overlaps) == expected


def test_every_strategy_says_what_it_sends():
    assert {strategy for strategy, _, _ in MODES} == set(STRATEGIES)
