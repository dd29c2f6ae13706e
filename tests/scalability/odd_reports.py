"""Reports that are hard to show: crowded, empty, with long names and figures out of the usual."""

from collections.abc import Callable
from dataclasses import replace

from dist_llm.parallel.cost import Network
from dist_llm.scalability.points import make_series, parse_points
from dist_llm.scalability.report import Report, make_report
from dist_llm.seeding import generator
from tests.scalability.synthetic import MACHINE, learning_run, one_run, report, runs, study

NETWORKS = [Network(50, 1), Network(25, 10), Network(2, 100)]
COUNTS = [1, 2, 4, 8, 16, 32, 64, 128]
FEW = {"1x1": 1.0, "1x2": 0.75, "2x1": 0.51, "1x4": 0.625, "4x1": 0.27}
BATCHES = {"strong": 128, "weak": 7}  # never the same at any number of ranks


def make(
    times_s: dict[str, dict[str, float]], seed: int = 0, noise: float = 0.02, rounds: int = 8, host: str = "here",
    networks: list[Network] = NETWORKS, over: tuple[str, ...] = (), disturbed: tuple[str, ...] = (),
) -> Report:  # fmt: skip
    """A report of steps that take so long, with noise, for each kind of scaling and point."""
    rng, names = generator(seed, "odd reports"), list(dict.fromkeys(name for of in times_s.values() for name in of))
    measured = study([], points=",".join(names), modes=())
    for mode, of in times_s.items():
        series = make_series(mode, parse_points(",".join(of)), BATCHES[mode])
        measured.series.append(series)
        for name, step_s in of.items():
            (point,) = parse_points(name)
            for number in range(rounds):
                measured.runs.append(
                    one_run(
                        number,
                        point,
                        step_s * float(rng.lognormal(0, noise)),
                        batch_size=series.batch_size(point),
                        waiting=(0.05 * float(rng.random()), 0.2 * float(rng.random())),
                        warning="take turns" if name in over else "",
                        disturbance=0.5 if name in disturbed else 0.0,
                    )
                )
    return make_report(measured, replace(MACHINE, host=host), "python -m dist_llm.scaling", networks)


def powers(efficiency: float, threads: int = 1) -> dict[str, float]:
    """Step times of a fixed batch on 1 to 128 ranks, where each doubling keeps so much of the efficiency."""
    return {f"{n}x{threads}": 1 / n * efficiency**-i for i, n in enumerate(COUNTS)}


def to_a_loss(interval: int) -> Report:
    """Batches of 32 to 256 sequences on 1 to 32 ranks; the larger they are, the less a sequence teaches."""
    measured, names = [], {n: f"{n}x1" for n in COUNTS[:6]}
    for size in (32, 64, 128, 256):
        step_s = {name: size / 128 / n + 0.004 * n**0.5 for n, name in names.items()}
        measured += runs(step_s, (1, 1.02, 0.98, 1, 1.01, 0.99), batch_size=size)
    learned = [learning_run(size, [6.0, 3.1, 2.9], int(interval * (64 / size) ** 0.7)) for size in (32, 64, 128, 256)]
    return report(measured, points=",".join(names.values()), learned=learned)


def batches_alike() -> Report:
    """Six batch sizes, of which some take as long as others."""
    sizes, names = (4, 8, 16, 32, 64, 128), {n: f"{n}x1" for n in COUNTS[:3]}
    measured = []
    for size in sizes:
        step_s = {name: 0.1 + size / n / 8 for n, name in names.items()}
        measured += runs(step_s, (1.02, 0.98, 1, 1, 1.01, 0.99), batch_size=size)
    learned = [learning_run(size, [6.0, 2.9 - size / 100], max(8, 256 // size)) for size in sizes]
    return report(measured, points=",".join(names.values()), learned=learned)


REPORTS: dict[str, Callable[[], Report]] = {
    "few points": lambda: make({"strong": FEW, "weak": {"1x1": 1.0, "2x1": 1.04, "4x1": 1.13}}),
    "ranks lose": lambda: make({"strong": FEW | {"2x1": 0.98, "4x1": 0.98}}),
    "up to 128 ranks": lambda: make(
        {
            "strong": powers(0.95) | {f"1x{n}": n**-0.5 for n in COUNTS[1:]},
            "weak": {f"{n}x1": n**0.06 for n in COUNTS},
        }
    ),
    "all lines are one": lambda: make(
        {"strong": powers(1.0) | {f"1x{n}": 1 / n for n in COUNTS[1:]}, "weak": dict.fromkeys(powers(1.0), 1.0)},
        noise=0.0,
    ),
    "more than 100 %": lambda: make({"strong": FEW | {"4x1": 0.11}, "weak": {"1x1": 1.0, "2x1": 0.6, "4x1": 0.3}}),
    "one point": lambda: make({"strong": {"1x1": 1.0}}),
    "too few rounds": lambda: make({"strong": FEW}, rounds=3),
    "disturbed": lambda: make({"strong": FEW}, disturbed=("4x1", "1x4")),
    "oversubscribed": lambda: make({"strong": FEW | {"8x1": 0.4}}, over=("8x1",)),
    "time to a loss": lambda: to_a_loss(150),
    "a long time to a loss": lambda: to_a_loss(10_000_000),
    "many batch sizes": batches_alike,
    "no projections": lambda: make({"strong": FEW}, networks=[]),
    "long names": lambda: make(
        {"strong": FEW},
        host="a-host-with-a-name.of-sixty-three-letters.in-a-rack.of-some-data-centre",
        networks=[Network(1234.5, 0.125), Network(0.0625, 1234.5)],
    ),
    "ranks of four threads, any counts": lambda: make({"strong": {f"{n}x4": 1 / n for n in (1, 3, 5, 6, 7, 12, 100)}}),
}


def random_report(seed: int) -> Report:
    """Any points, any speeds, any networks."""
    rng = generator(seed, "any report")
    counts = sorted({1, *(int(n) for n in rng.integers(2, 129, int(rng.integers(0, 8))))})
    threads = int(rng.choice([1, 1, 2, 4]))
    ranks = [f"{n}x{threads}" for n in counts]
    names = {"strong": [*ranks, *(f"1x{n * threads}" for n in counts[1:])], "weak": ranks}
    times_s = {}
    for mode in ("strong", "weak") if rng.random() < 0.6 else ("strong",):
        kept = float(rng.choice([0.0, 0.5, 0.9, 0.97, 1.0, 1.02])), float(rng.choice([0.2, 0.5, 0.97, 1.0]))
        cores = {name: parse_points(name)[0] for name in names[mode]}
        times_s[mode] = {
            name: float(point.cores ** (-kept[point.ranks == 1] if mode == "strong" else 1 - kept[0]))
            for name, point in cores.items()
            if point.ranks <= BATCHES["strong"]
        }
    networks = [
        Network(float(rng.choice([1, 25, 500])), float(rng.choice([0.1, 10, 100]))) for _ in range(rng.integers(4))
    ]
    return make(times_s, seed, float(rng.choice([0.0, 0.01, 0.1])), int(rng.choice([3, 6, 9])), networks=networks)
