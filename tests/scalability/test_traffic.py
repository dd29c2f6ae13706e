import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.parallel.choice import choose_reduction
from dist_llm.parallel.comm import SerialComm
from dist_llm.scalability.traffic import traffic

P = 2_312_256
MODES = [
    ("blocking", "float32", ("all-reduce", 4 * P, 1, 1, False)),
    ("blocking", "bfloat16", ("all-to-all, all-gather", 2 * P, 1, 1, False)),
    ("deterministic", "float32", ("all-reduce", 8 * P, 1, 1, False)),
    ("sharded", "float32", ("reduce-scatter, all-gather", 4 * P, 1, 1, False)),
    ("overlapped", "float32", ("started all-reduce", 513_835, 18, 1, True)),
    ("local", "float32", ("all-to-all, all-gather", 4 * P, 1, 20, False)),
]


@pytest.mark.parametrize(("reduction", "wire", "expected"), MODES)
def test_what_a_step_of_the_default_model_sends(reduction, wire, expected):
    config = Config().replace({"parallel": {"reduction": reduction, "wire": wire}}).parallel
    t = traffic(config, P)
    assert (t.operation, t.message_bytes, t.messages, t.every_steps, t.overlaps) == expected


class Counting(SerialComm):
    """Counts the all-reduces that are started."""

    started = 0

    def start_all_reduce_(self, array):
        self.started += 1
        return super().start_all_reduce_(array)


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 12_345])
def test_as_many_messages_as_the_reduction_starts(n):
    config = Config().replace({"parallel": {"bucket_bytes": 4000}}).parallel
    comm, grad = Counting(), np.zeros(n, np.float32)
    reduction = choose_reduction(comm, grad.copy(), grad, config)
    reduction.begin()
    reduction.reduce()
    reduction.close()
    assert comm.started == traffic(config, n).messages
