import itertools

import pytest

from dist_llm.config import Config
from dist_llm.model.llama import Llama
from dist_llm.parallel.cost import ETHERNET
from dist_llm.parallel.topology import Topology
from dist_llm.scalability import operations
from dist_llm.scalability.operations import BATCHES, measure_operation
from dist_llm.scalability.overlap import Overlap
from dist_llm.scalability.overlap_timing import TIMES, measure_beside

MODEL = {"dim": 16, "n_layers": 3, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 16, "vocab_size": 257}


def config(strategy: str) -> Config:
    return Config().replace({"model": MODEL, "parallel": {"strategy": strategy, "bucket_bytes": 4096}})


@pytest.mark.parametrize("strategy", ["blocking", "overlapped", "sharded", "local"])
def test_every_batch_of_every_size_is_kept(comm, strategy):
    timings = measure_operation(comm, config(strategy), 3000)
    assert [len(batches_s) for batches_s in timings.batches_s] == [BATCHES] * len(timings.sizes_bytes)
    assert timings.traffic.message_bytes in timings.sizes_bytes
    assert min(map(min, timings.batches_s)) > 0
    assert timings.add_s_per_byte > 0
    assert (timings.hosts, timings.beside) == (1, None)  # inside a host nothing is hidden


@pytest.mark.parametrize(("strategy", "measured"), [("overlapped", True), ("blocking", False)])
def test_overlap_is_measured_between_hosts_where_there_is_any(comm, monkeypatch, strategy, measured):
    monkeypatch.setattr(operations.Topology, "of", lambda comm: Topology(2, 2, ETHERNET))
    timings = measure_operation(comm, config(strategy), 3000)
    assert timings.hosts == 2
    assert bool(timings.beside) == measured


def test_a_backward_pass_tells_when_gradients_are_final(comm):
    made = config("overlapped")
    beside = measure_beside(comm, made)
    params = Llama(made.model, 257).params
    shares, times = zip(*beside.final, strict=True)
    # The last norm, three layers, and the embedding with them.
    offsets = [params[f"model.layers.{i}.input_layernorm.weight"].offset for i in (2, 1, 0)]
    final_from = [params["model.norm.weight"].offset, *offsets, 0]
    assert shares == pytest.approx([1 - offset / params.size for offset in final_from])
    assert all(0 < one <= other for one, other in itertools.pairwise(times))
    assert times[-1] == 1.0
    figures = (beside.alone_s, beside.left_s, beside.backward_s, beside.slowed_s, beside.both_s)
    assert {len(one) for one in figures} == {TIMES}
    assert min(map(min, figures)) > 0
    assert beside.sent_bytes == pytest.approx(8 * params.size * (comm.size - 1) / comm.size)
    assert comm.size == 1 or 0 <= Overlap.of(comm.size, beside).progress <= 1
