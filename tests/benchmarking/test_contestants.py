"""Who is left out, and why."""

import pytest

from dist_llm.benchmarking.contestants import OURS, contestants
from dist_llm.config import Config

EVERYONE = {c.name: c for c in contestants(cores=2, ranks=3)}


def test_each_of_our_precisions_has_a_core_all_cores_and_ranks():
    for prefix, precision, _ in OURS:
        ways = [EVERYONE[f"{prefix}-{way}"] for way in ("1x1", "1xALL", "Nx1")]
        assert [(c.processes, c.threads, c.by_mpirun) for c in ways] == [(1, 1, False), (1, 2, False), (3, 1, True)]
        assert {c.precision for c in ways} == {precision}


@pytest.mark.parametrize(("name", "way"), [("torch-ddp-gloo", {}), ("torch-ddp-compile", {"compiled": True})])
def test_pytorch_has_its_ways_in_both_precisions(name, way):
    assert EVERYONE[name].make.keywords == {"bf16": False, "ddp": True} | way
    half = EVERYONE[name.replace("ddp", "bf16-ddp")]
    assert half.make.keywords == {"bf16": True, "ddp": True} | way
    assert (EVERYONE[name].precision, half.precision) == ("float32", "bfloat16")


def test_a_precision_that_the_machine_lacks_is_left_out(monkeypatch):
    monkeypatch.setattr("dist_llm.fast.selection.missing", lambda *_: "the processor has no AVX512-BF16")
    assert "the processor has no AVX512-BF16" in EVERYONE["bf16-1x1"].why_not(Config())
    assert EVERYONE["numpy-1x1"].why_not(Config()) is None
    assert EVERYONE["strategy-blocking"].why_not(Config()) is None
