"""The command as a user starts it, on a model so small that only its ways are measured, not its speed."""

import importlib.util
import json
import signal
from dataclasses import asdict

import psutil
import pytest

from dist_llm.config import Config
from dist_llm.data import prepare
from dist_llm.data.loader import Loader
from dist_llm.data.preparation import open_data
from dist_llm.scalability.exports.registry import EXPORTS
from dist_llm.scalability.training_run import FIRST_STEPS, measure_training
from dist_llm.training.step import TrainStep
from tests.conftest import processes_of
from tests.scalability import synthetic

SHAPE = {"dim": 16, "n_layers": 2, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 16}
TINY = [*(f"--model.{key}={value}" for key, value in SHAPE.items()), "--data.tokenizer=byte", "--train.batch_size=6"]
FAST = ["--quick", "--seconds=0.02", "--repeats=2", "--patience=0"]


@pytest.fixture
def scaling(start, text_file, tmp_path):
    """``scaling("--points=1x1,2x1", ...)`` starts the command on the tiny configuration in tmp_path."""

    def scaling(*arguments: str, **changes: str):
        where = [f"--data.path={text_file}", f"--data.cache_dir={tmp_path / 'cache'}"]
        return start(0, "-u", "-m", "dist_llm.scaling", *TINY, *where, *arguments, **changes)

    return scaling


def jobs(folder) -> list[int]:
    return processes_of("dist_llm.scalability.job", folder)


@pytest.mark.mpirun
def test_quick_from_end_to_end_at_one_and_two_ranks(scaling, tmp_path):
    exports = [f"--export={name}" for name in EXPORTS]
    result = scaling(*FAST, *exports, "--points=1x1,2x1", "--network=25,10", "--out=report").wait()
    assert result.returncode == 0, result.stdout + result.stderr
    assert jobs(tmp_path) == []
    folder = tmp_path / "report"
    report = json.loads((folder / "scaling.json").read_text())
    strong, weak = report["series"]
    assert (strong["mode"], weak["mode"]) == ("strong", "weak")
    # One process with two threads has joined: it is the baseline of two ranks.
    assert [p["point"] for p in strong["points"]] == ["1x1", "2x1", "1x2"]
    assert [p["batch_size"] for p in weak["points"]] == [6, 12, 6]
    # Six points, of which two are one and the same in both series.
    assert len(report["measurements"]["runs"]) == 2 * 4
    assert strong["losses"]["equal"] is True
    assert strong["losses"]["step"] >= FIRST_STEPS + 2
    for series in report["series"]:
        for p in series["points"]:
            # What counts depends on what else the machine does meanwhile; two runs of each point there are.
            assert p["runs"] == 2
            assert len(p["tokens_per_s"]["rounds"]) == (p["runs"] - p["disturbed_runs"] or p["runs"])
            assert sum(p["seconds"].values()) == pytest.approx(p["step_s"]["median"], rel=0.5)
            assert p["seconds"]["compute"] > 0
            assert (p["bytes_sent"] > 0) == (p["ranks"] == 2)
            assert len(p["peak_memory_bytes"]) == p["ranks"]
            assert min(p["peak_memory_bytes"]) > 1e7
    # Two rounds are too few for an interval: nothing is concluded, and the first line says so.
    assert report["verdict"][0].startswith("NO VERDICT on strong scaling: 1x1 (")
    assert report["communication"]["calibration"]
    assert report["communication"]["projections"] == []
    assert report["mpi"]
    page = (folder / "report.html").read_text()
    for p in strong["points"] + weak["points"]:
        for place in (page, result.stdout, (folder / "scaling.csv").read_text().replace(".", "")):
            number = f"{p['tokens_per_s']['median']:,.0f}"
            assert number in place or str(p["tokens_per_s"]["median"]).replace(".", "") in place
    assert report["verdict"][0] in " ".join(result.stdout.split())
    assert (folder / "scaling.png").exists() == (importlib.util.find_spec("matplotlib") is not None)
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*") if "scaling." not in path.name)
    assert [name for name in written if not name.startswith("mllog/")] == [
        "allreduce-2-ranks.nccl-tests.txt", "allreduce-2-ranks.osu.txt", "report.html", "scaling-strong.extra-p.jsonl",
        "scaling-weak.extra-p.jsonl",
    ]  # fmt: skip
    assert len([name for name in written if name.startswith("mllog/")]) == len(report["measurements"]["runs"])


@pytest.mark.mpirun
def test_the_way_to_a_loss_from_end_to_end(scaling, tmp_path):
    learning = ["--to-loss=4.5", "--train.max_steps=60", "--train.eval_tokens=64", "--optim.warmup_steps=3"]
    how = ["--points=1x1,2x1", "--mode=strong", "--repeats=1", "--export=mllog", "--out=report"]
    result = scaling(*FAST, *learning, *how).wait()
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "report/scaling.json").read_text())
    assert {(run["point"], run["batch_size"]) for run in report["measurements"]["runs"]} == {
        (point, size) for point in ("1x1", "2x1", "1x2") for size in (3, 6, 12)
    }
    batches = report["to_loss"]["batches"]
    assert [(batch["batch_size"], batch["max_steps"]) for batch in batches] == [(3, 120), (6, 60), (12, 30)]
    for batch in batches:
        steps = batch["reached"]
        assert 0 < steps["least"] < steps["most"] <= batch["max_steps"]
        assert (
            f"batch {batch['batch_size']}, lr {batch['lr']:.3g}: reached after {steps['steps']:,.0f}" in result.stdout
        )
        # One round is too few for an interval: there are steps to the loss, and no time.
        assert batch["points"] == []
        assert set(batch["doubts"]) == {"1x1", "2x1", "1x2"}
    assert report["verdict"][-1].startswith("no recommendation: without results of 1x1, 2x1, 1x2 ")
    assert len(list((tmp_path / "report/mllog").glob("*-learning.log"))) == 3
    assert "to a validation loss of 4.5" in (tmp_path / "report/report.html").read_text()


@pytest.mark.parametrize("strategy", ["overlapped", "sharded", "local"])
def test_what_is_measured_is_what_trains(comm, text_file, tmp_path, strategy):
    data = {"path": str(text_file), "cache_dir": str(tmp_path / "cache"), "tokenizer": "byte"}
    config = Config().replace({"model": SHAPE | {"vocab_size": 257}, "data": data, "train": {"batch_size": 7}})
    parallel = {"threads": 1, "strategy": strategy, "local_steps": 2}
    config = config.replace({"data": {"shards": str(prepare(config.data))}, "parallel": parallel})
    answer = measure_training(comm, config, 4, 0.0)
    assert (answer.steps >= 4, len(answer.ranks)) == (True, comm.size)
    assert answer.steps + answer.warm_up_steps == len(answer.losses) == len(answer.step_s)
    step = TrainStep(config, Loader(open_data(prepare(config.data)).train, 7, 16, config.train.seed), comm)
    assert answer.losses == [step().loss for _ in answer.losses]
    step.close()
    for rank in answer.ranks:
        assert sum(rank.seconds.values()) == pytest.approx(rank.total_s)
        assert rank.seconds["compute"] > rank.backward_s > 0
        assert (rank.bytes_sent > 0) == (comm.size > 1)
        waited_s = rank.seconds["communication"] + rank.seconds["imbalance"]
        assert waited_s > 0 if comm.size > 1 else waited_s < 0.1 * rank.total_s


@pytest.mark.mpirun
def test_ctrl_c_reports_what_there_is_and_leaves_no_job(scaling, tmp_path):
    how = ["--seconds=0.02", "--steps=2", "--repeats=1000", "--parallel.strategy=deterministic", "--out=report"]
    job = scaling("--points=1x1,2x1", "--mode=strong", *how)
    for line in job.process.stdout:
        if line.startswith("round 2"):
            break
    job.process.send_signal(signal.SIGINT)
    result = job.wait()
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
    assert "warning: the measurement was interrupted" in result.stdout
    (series,) = json.loads((tmp_path / "report/scaling.json").read_text())["series"]
    assert series["points"]
    assert series["losses"]["equal"] is True
    assert jobs(tmp_path) == []


@pytest.mark.mpirun
def test_ctrl_c_before_the_first_run_leaves_nothing(scaling, tmp_path):
    job = scaling("--points=2x1")
    for line in job.process.stdout:
        if line.startswith("timing"):
            break
    job.process.send_signal(signal.SIGINT)
    result = job.wait()
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.mpirun
def test_a_killed_job_is_a_point_that_is_missing(scaling, tmp_path):
    how = [
        "--seconds=0.02",
        "--steps=2",
        "--repeats=2",
        "--patience=0",
        "--parallel.strategy=local",
        "--parallel.local_steps=4",
    ]
    job = scaling(*how, "--points=1x1,2x1", "--mode=strong", "--out=report")
    for line in job.process.stdout:
        if line.startswith("round 1: 2x1"):  # 1x2 is next
            break
    while not (found := jobs(tmp_path)):
        pass
    psutil.Process(found[0]).kill()
    result = job.wait()
    assert result.returncode == 1
    assert result.stderr.startswith("error: the report is not complete: 1x2: ")
    report = json.loads((tmp_path / "report/scaling.json").read_text())
    assert list(report["measurements"]["failures"]) == ["1x2"]
    (series,) = report["series"]
    assert {p["point"]: p["runs"] for p in series["points"]} == {"1x1": 2, "2x1": 2}
    assert report["warnings"][0].startswith("1x2 failed and is missing")
    # And local steps were measured in whole rounds, of which each sends a quarter of what it would in each step.
    assert series["losses"]["equal"] is None
    for measured in report["measurements"]["runs"]:
        assert measured["steps"] % 4 == 0
        assert (len(measured["losses"]) - measured["steps"]) % 4 == 0
    two = next(p for p in series["points"] if p["ranks"] == 2)
    assert 0 < two["bytes_sent"] < 4 * report["parameters"]


def test_set_beside_an_older_report(scaling, tmp_path):
    old = tmp_path / "old.json"
    old.write_text(json.dumps(asdict(synthetic.report())))
    arguments = [*FAST, "--points=1x1", "--mode=strong", "--repeats=1"]
    result = scaling(*arguments, "--compare", str(old)).wait()
    assert result.returncode == 0, result.stderr
    assert "two reports side by side" in result.stdout
    assert "two reports side by side" in (tmp_path / "runs/scaling-001/report.html").read_text()
    result = scaling("--compare", str(old), str(tmp_path / "runs/scaling-001"), "--out=both").wait()
    assert result.returncode == 0, result.stderr
    assert "strong 1x1" in result.stdout
    assert "round 1" not in result.stdout
    assert "strong 1x1" in (tmp_path / "both/comparison.html").read_text()


@pytest.mark.mpirun
def test_in_parts_that_are_merged(scaling, tmp_path):
    points = ["--points=1x1,2x1,3x1", "--mode=strong", "--out=study"]
    for part in ("2x1", "3x1"):
        result = scaling(*FAST, *points, f"--part={part}").wait()
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"written: part-{part}.json in study; when all parts are there: --merge study" in result.stdout
    assert sorted(file.name for file in (tmp_path / "study").iterdir()) == ["part-2x1.json", "part-3x1.json"]
    result = scaling("--merge=study", "--out=study", "--export=osu").wait()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "round 1" not in result.stdout
    report = json.loads((tmp_path / "study/scaling.json").read_text())
    (series,) = report["series"]
    assert {p["point"] for p in series["points"]} >= {"1x1", "2x1", "3x1"}
    assert (tmp_path / "study/report.html").exists()
    assert (tmp_path / "study/allreduce-2-ranks.osu.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part=2x1"], "--part needs --out, the folder of all parts"),
        (["--part=2x1", "--points=1x1,3x1", "--out=study"], "--part 2x1 is none of the points 1x1, 3x1"),
        (["--merge=."], "--merge: there is no part-*.json in ."),
        (["--points=1y1"], "--points takes RANKSxTHREADS,RANKSxTHREADS such as 1x1,2x1,1x2, not '1y1'"),
        (
            ["--points=9x1", "--mode=strong", "--train.batch_size=0"],
            "train.batch_size must be above 0, not 0",
        ),
        (
            ["--network=fast"],
            "--network takes a latency in us and a rate in Gbit/s, such as 25,10, not 'fast'",
        ),
        (
            ["--network=25,0"],
            "--network takes a latency in us and a rate in Gbit/s, such as 25,10, not '25,0'",
        ),
        (
            ["--seconds=-1"],
            "argument --seconds: takes a number of seconds from 0 on, not '-1' (--help lists the options)",
        ),
        (
            ["--patience=long"],
            "argument --patience: takes a number of minutes from 0 on, not 'long' (--help lists the options)",
        ),
        (["--launcher=no-such"], "--launcher: there is no program 'no-such'"),
        (
            ["--parallel.threads=2"],
            "the threads of a rank are part of a point: leave --parallel.threads out, see --points",
        ),
        (
            ["--to-loss=3", "--parallel.strategy=local"],
            "--to-loss: local steps are another algorithm for every number of ranks, with steps to the loss of its "
            "own; choose another --parallel.strategy",
        ),
        (["--batch-sizes=8"], "--batch-sizes are those of --to-loss: name the validation loss, too"),
        (
            ["--to-loss=3", "--batch-sizes=8,0"],
            "argument --batch-sizes: takes whole numbers from 1 on such as 8,16,32, not '8,0' (--help lists the "
            "options)",
        ),
        (
            ["--to-loss=low"],
            "argument --to-loss: takes a number of nats per token from 0 on, not 'low' (--help lists the options)",
        ),
        (
            ["--to-loss=3", "--part=1x1", "--out=study"],
            "--to-loss is for a whole study: leave it out of a --part",
        ),
        (["--compare=gone.json"], "cannot read the report gone.json: No such file or directory"),
        (["--out=file/x"], "--out: cannot make the folder file/x: Not a directory"),
        (["--model.vocab_size=9"], "model.vocab_size=9 is less than the tokenizer's 257"),
    ],
)
def test_mistakes_are_one_line(scaling, tmp_path, options, message):
    (tmp_path / "file").touch()
    result = scaling(*options).wait()
    assert (result.returncode, result.stderr) == (2, f"error: {message}\n")


@pytest.mark.mpirun
def test_not_under_mpirun(run):
    result = run(2, "-m", "dist_llm.scaling")
    assert result.returncode == 2
    assert result.stderr.startswith("error: scaling starts mpirun itself: start it without\n")
    assert result.stderr.count("error:") == 1
