import pytest

from dist_llm.benchmarking.contestants import choose, contestants
from dist_llm.benchmarking.report import draw, spread, summarize, table
from dist_llm.errors import UserError

EVERYONE = {c.name: c for c in contestants(cores=2, ranks=2)}
MB = 1_000_000


def answers(*seconds: float) -> list[dict]:
    return [{"seconds": s, "peak_memory_bytes": (50 + i) * MB} for i, s in enumerate(seconds)]


# The second round is twice as slow for all, and the last one disturbed only the peer.
ROUNDS = [
    {
        "sgemm": [{"one_core_gflops": 100.0, "all_cores_gflops": 190.0}],
        "numpy-1x1": answers(slow * 2.0),
        "numpy-Nx1": answers(slow * 1.0, slow * 0.9),
        "torch-eager-all": answers(slow * peer),
    }
    for slow, peer in ((1, 1.25), (2, 1.25), (1, 2.0))
]


@pytest.fixture
def report() -> dict:
    team = [(EVERYONE[name], f"how {name} works") for name in ROUNDS[0]]
    result = summarize(team, ROUNDS, cores=2, tokens_per_turn=10_000, flops_per_token=5_000_000)
    rest = {"machine": {"cores": 2}, "flops_per_token": 5_000_000, "flops_formula": "FORMULA", "parameters": 1234}
    return result | rest | {"left_out": {"torch-ddp-gloo": "no gloo", "torch-bf16-all": "no gloo"}}


def test_spread():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": [3.0, 1.0, 2.0]}


def test_medians_ratios_and_utilisation(report):
    one, ranks, peer = report["contestants"]
    assert one["tokens_per_s"]["rounds"] == [5000, 2500, 5000]
    assert ranks["tokens_per_s"] == spread([10_000, 5000, 10_000])  # by the slowest rank
    assert (peer["tokens_per_s"]["min"], peer["tokens_per_s"]["median"]) == (4000, 5000)
    # Medians of the speeds alone would say 0.5.
    assert peer["reference"] == "numpy-Nx1"
    assert peer["ratio"]["median"] == pytest.approx(0.8)
    assert one["reference"] == "numpy-1x1"  # the only one on one core
    assert one["mfu"] == pytest.approx(5000 * 5e6 / 100e9)
    assert ranks["mfu"] == pytest.approx(10_000 * 5e6 / 190e9)
    assert ranks["peak_memory_bytes"] == [50 * MB, 51 * MB]


def test_table(report):
    lines = table(report).splitlines()
    assert " ".join(lines[0].split()) == "contestant processes threads tokens/s (min..max) ratio to MFU peak memory"
    assert " ".join(lines[1].split()) == "numpy-1x1 1 1 5,000 (2,500..5,000) - - 25 % 50 MB"
    assert " ".join(lines[3].split()) == "torch-eager-all 1 2 5,000 (4,000..8,000) 0.80 numpy-Nx1 13 % 50 MB"
    assert "sgemm peak, GFLOP/s: 100 (100..100) on one core, 190 (190..190) on all 2" in lines
    assert "FLOPs per token = FORMULA = 5.00 million" in lines
    assert "torch-eager-all: how torch-eager-all works" in lines
    assert "left out: torch-ddp-gloo, torch-bf16-all: no gloo" in lines


def test_without_sgemm_there_is_no_utilisation_and_without_numpy_no_ratio():
    team = [(EVERYONE["torch-eager-all"], "")]
    result = summarize(team, ROUNDS, cores=2, tokens_per_turn=10_000, flops_per_token=1)
    (peer,) = result["contestants"]
    assert (result["sgemm_gflops"], peer["mfu"], peer["ratio"]) == (None, None, None)


def test_picture(report, tmp_path):
    pytest.importorskip("matplotlib")
    assert draw(report, tmp_path / "benchmark.png")
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    assert [p.name for p in tmp_path.iterdir()] == ["benchmark.png"]


def test_choose():
    everyone = list(EVERYONE.values())
    assert choose(everyone, None) == everyone
    assert [c.name for c in choose(everyone, "numpy-1x1, sgemm")] == ["sgemm", "numpy-1x1"]
    with pytest.raises(UserError, match="unknown contestant 'numpy-1x2'; did you mean numpy-1x1"):
        choose(everyone, "numpy-1x2")
