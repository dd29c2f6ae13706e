from dataclasses import replace

import pytest

from dist_llm.benchmarking.bar_chart import draw_benchmark
from dist_llm.benchmarking.contestants import choose, contestants
from dist_llm.benchmarking.results import FASTER, Report, compare, summarize, text
from dist_llm.benchmarking.turn import Answer
from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.measuring.page import page
from dist_llm.measuring.peak import Peak
from dist_llm.measuring.spread import Spread
from tests.measuring.browser import flaws
from tests.scalability.synthetic import MACHINE

EVERYONE = {c.name: c for c in contestants(cores=2, ranks=2)}
MB = 1_000_000
PHASES = {"attention": 0.5, "data": 0.125, "reduction": 0.125, "optimizer": 0.125, "rest": 0.125}


def answers(*seconds: float, amount: int = 10_000, phases: bool = False) -> list[Answer]:
    return [
        Answer(
            s,
            amount // len(seconds),
            phases={phase: share * s for phase, share in PHASES.items()} if phases else None,
            peak_memory_bytes=(50 + i) * MB,
        )
        for i, s in enumerate(seconds)
    ]


# The second round is twice as slow for all, and the last one disturbed only the peer.
ROUNDS = [
    {
        "sgemm": [Answer(peak=Peak(100.0 / slow, 190.0 / slow, 2))],
        "numpy-1x1": answers(slow * 2.0, phases=True),
        "numpy-Nx1": answers(slow * 1.0, slow * 0.9, phases=True),
        "torch-eager-all": answers(slow * peer),
        "generation-numpy": answers(slow * 0.1, amount=100),
        "generation-torch-all": answers(slow * 0.2, amount=100),
        "bpe-encoding-numpy": answers(slow * 2.0, amount=5 * MB),
        "bpe-encoding-hf": answers(slow * 1.0, amount=5 * MB),
    }
    for slow, peer in ((1, 1.25), (2, 1.25), (1, 2.0))
]


FLOPS = {"step": 5_000_000, "long": 7_000_000}


@pytest.fixture
def report() -> Report:
    members = [(EVERYONE[name], f"how {name} works") for name in ROUNDS[0]]
    results, peaks = summarize(members, ROUNDS, cores=2, flops_per_token=FLOPS)
    left_out = {"torch-ddp-gloo": "no gloo", "torch-bf16-all": "no gloo"}
    machine = replace(MACHINE, local_cores=2)
    return Report(
        machine,
        ModelConfig(),
        1234,
        FLOPS,
        16,
        3,
        1,
        peaks,
        results,
        compare(results, 2),
        left_out,
        flops_formula="FORMULA",
    )


def test_spread():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, min=1.0, max=3.0, rounds=[3.0, 1.0, 2.0])


def test_medians_ratios_and_utilisation(report):
    one, ranks, peer, *_ = report.contestants
    assert one.speed.rounds == [5000, 2500, 5000]
    assert ranks.speed == Spread.of([10_000, 5000, 10_000])  # by the slowest rank
    assert peer.speed.rounds == [8000, 4000, 5000]
    # The medians of the speeds alone would say 0.5.
    assert peer.reference == "numpy-Nx1"
    assert peer.ratio.median == pytest.approx(0.8)
    assert one.reference == "numpy-1x1"  # the only one on one core
    # By the best peak of all rounds: a disturbed round is a lesser use of the machine.
    assert one.mfu.rounds == pytest.approx([s * 5e6 / 100e9 for s in (5000, 2500, 5000)])
    assert ranks.mfu.rounds == pytest.approx([s * 5e6 / 190e9 for s in (10_000, 5000, 10_000)])
    assert ranks.peak_memory_bytes == [50 * MB, 51 * MB]
    assert ranks.phases == pytest.approx(PHASES)
    assert peer.phases is None
    assert report.sgemm_gflops["all_cores"].rounds == [190, 95, 190]


def test_each_task_has_its_unit_and_its_reference(report):
    by_name = {c.name: c for c in report.contestants}
    assert (by_name["bpe-encoding-hf"].unit, by_name["bpe-encoding-hf"].speed.median) == ("MB/s", 5.0)
    assert by_name["bpe-encoding-hf"].ratio.median == pytest.approx(2.0)
    assert by_name["generation-torch-all"].reference == "generation-numpy"  # though it has more cores
    assert by_name["generation-torch-all"].ratio.median == pytest.approx(0.5)
    assert by_name["generation-torch-all"].mfu is None


def test_text(report):
    lines = text(report, 120).splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert words[0] == "training step: forward, backward, reduction, clipping, AdamW, tokens/s"
    assert words[1] == "processes threads median (min..max) ratio (to) MFU peak memory"
    assert words[2] == "numpy-1x1 1 1 5,000 (2,500..5,000) - - 25 % 50 MB"
    assert words[4] == "torch-eager-all 1 2 5,000 (4,000..8,000) 0.80 numpy-Nx1 13 % 50 MB"
    assert "bpe-encoding-hf 1 1 5.00 (2.50..5.00) 2.00 bpe-encoding-numpy - 50 MB" in words
    assert "numpy-Nx1 50.0 12.5 12.5 12.5 12.5 50.0" in words
    assert "sgemm peak, GFLOP/s: 100 (50..100) on one core, 190 (95..190) on all 2" in lines
    assert " = 5.00 million (7.00 with 2,048 tokens) " in " ".join(words)
    assert "torch-eager-all: how torch-eager-all works" in lines
    assert "left out: torch-ddp-gloo, torch-bf16-all: no gloo" in lines


def test_without_sgemm_there_is_no_utilisation_and_without_numpy_no_ratio():
    rounds = [{"torch-eager-all": each["torch-eager-all"]} for each in ROUNDS]
    (peer,), peaks = summarize([(EVERYONE["torch-eager-all"], "")], rounds, cores=2, flops_per_token={"step": 1})
    assert (peaks, peer.mfu, peer.ratio) == (None, None, None)


def compared(seconds: dict[str, tuple[float, ...]]) -> Report:
    """A report of contestants by the seconds of their turns, on two cores whose peak is 100 GFLOP/s each."""
    peak = {"sgemm": [Answer(peak=Peak(100.0, 200.0, 2))]}
    rounds = [
        peak | {name: answers(s) for name, s in zip(seconds, turn, strict=True)}
        for turn in zip(*seconds.values(), strict=True)
    ]
    members = [(EVERYONE[name], "") for name in rounds[0]]
    results, peaks = summarize(members, rounds, 2, {"step": 50_000_000})
    comparisons, machine = compare(results, 2), replace(MACHINE, local_cores=2)
    return Report(machine, ModelConfig(), 1234, FLOPS, 16, 2, 1, peaks, results, comparisons, {})


def test_our_fastest_beside_the_fastest_of_others_in_both_precisions():
    report = compared(
        {
            "numpy-1x1": (2.0, 4.0, 2.0),
            "bf16-1x1": (1.0, 2.0, 1.0),
            "torch-eager-1": (3.0, 6.0, 2.5),
            "torch-compile-1": (2.5, 5.0, 3.0),  # the faster one: by the median, though not in the third round
            "torch-bf16-1": (2.0, 4.0, 2.0),
            "jax-jit-all": (1.0, 1.0, 1.0),  # on two cores, where there is none of ours
        }
    )
    names = [(c.cores, c.ours, c.precision, c.theirs, c.their_precision) for c in report.comparisons]
    assert names == [
        (1, "numpy-1x1", "float32", "torch-compile-1", "float32"),
        (1, "bf16-1x1", "bfloat16", "torch-bf16-1", "bfloat16"),
        (1, "bf16-1x1", "bfloat16", "torch-compile-1", "float32"),
    ]
    assert [c.ratio.rounds for c in report.comparisons] == [[1.25, 1.25, 1.5], [2, 2, 2], [2.5, 2.5, 3]]
    words = [" ".join(line.split()) for line in text(report, 120).splitlines()]
    assert "bfloat16 / float32 1 bf16-1x1 torch-compile-1 2.50 (2.50..3.00)" in words


def test_use_of_more_than_the_peak_is_explained():
    report = compared({"numpy-1x1": (6.0,), "bf16-1x1": (4.0,)})
    assert [c.mfu.median for c in report.contestants] == pytest.approx([50e6 * 10_000 / s / 100e9 for s in (6.0, 4.0)])
    assert f"({FASTER})" in text(report, 120).splitlines()
    assert FASTER not in text(compared({"numpy-1x1": (6.0,)}))


def test_compiled_float32_is_float32():
    compiled = replace(EVERYONE["numpy-1x1"], precision="float32-compiled")
    (result,), _ = summarize([(compiled, "")], [{"numpy-1x1": answers(1.0)}], 2, {})
    assert result.precision == "float32"


def test_communication_is_the_mean_over_ranks_and_rounds():
    ranks = [[Answer(1.0, 10, 2, exposed_s=e, bytes_sent=b) for e, b in ((0.2, 100.0), (0.6, 300.0))]] * 2
    (result,), _ = summarize([(EVERYONE["numpy-Nx1"], "")], [{"numpy-Nx1": r} for r in ranks], 2, {})
    assert (result.communication.exposed_s, result.communication.bytes_sent) == (pytest.approx(0.2), 100)


def test_picture(report):
    pytest.importorskip("matplotlib")
    picture = draw_benchmark(report)
    assert picture.png.startswith(b"\x89PNG")
    assert [panel.title for panel in picture.panels] == [
        "training step: forward, backward, reduction, clipping, AdamW, tokens/s",
        "generation of one text, with a KV cache, tokens/s",
        "encoding with it, MB/s",
    ]
    assert ">10,000, 26 % of peak<" in picture.panels[0].svg
    assert draw_benchmark(replace(report, contestants=[])) is None


@pytest.mark.parametrize("rounds", [1, 3])  # with intervals, which take six, too
def test_the_picture_in_a_browser(browser, report, rounds):
    pytest.importorskip("matplotlib")
    members = [(EVERYONE[name], "") for name in ROUNDS[0]]
    results, _ = summarize(members, ROUNDS * rounds, cores=2, flops_per_token=FLOPS)
    picture = draw_benchmark(replace(report, contestants=results))
    assert flaws(browser, page("Benchmark", [], [], [], picture.panels)) == {}


def test_choose():
    everyone = list(EVERYONE.values())
    assert choose(everyone, None) == everyone
    assert [c.name for c in choose(everyone, "numpy-1x1, sgemm")] == ["sgemm", "numpy-1x1"]
    assert [c.name for c in choose(everyone, "long,sgemm")] == ["sgemm", "long-numpy", "long-torch"]
    with pytest.raises(UserError, match="unknown contestant 'numpy-1x2'; did you mean numpy-1x1"):
        choose(everyone, "numpy-1x2")
