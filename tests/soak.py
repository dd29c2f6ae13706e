"""Train under the launcher with one fault after another, and compare every bit with an undisturbed run.

    python -m tests.soak --minutes 20
    python -m tests.soak --minutes 20 --ranks 4 --recover --seed 7

The strategy is deterministic, so a run that was killed, frozen, stopped, started again and left without disk must come
to the same weights, optimizer state and losses as one that nobody touched. Watched besides: the memory and the open
files of rank 0, and what is left when all is over: processes, segments of shared memory, temporary files. The last line
says whether all was well; so does the exit status. As root a run's folder is a small file system of its own, which is
filled now and then; others leave that fault out. Not part of the test suite.
"""

import argparse
import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

from dist_llm.training.checkpoint import list_checkpoints
from dist_llm.training.end_mark import read_end_mark

STEPS = 400
DISK_BYTES = 64 << 20
MEAN_PAUSE_S = 6.0  # between two faults
FROZEN_S = 3.0
FULL_S = 5.0
SETTINGS = [
    "--model.dim=64", "--model.n_layers=4", "--model.n_heads=4", "--model.ffn_dim=128", "--model.max_seq_len=64",
    "--data.path=README.md", "--data.tokenizer=byte", "--train.batch_size=12", f"--train.max_steps={STEPS}",
    "--train.eval_interval=100", "--train.checkpoint_interval=40", "--log.sample_tokens=10",
    "--parallel.strategy=deterministic", "--parallel.threads=1", "--parallel.check_interval=20",
]  # fmt: skip


class Run:
    """A run folder, and the launcher that is at work in it."""

    def __init__(self, folder: Path, base: Path, ranks: int, wishes: list[str]) -> None:
        self.folder, self.log = folder, base / f"{folder.parent.name}.log"
        self.command = [sys.executable, "-m", "dist_llm.launch", "-n", str(ranks), "--continue", *wishes, "--"]
        self.command += [*SETTINGS, f"--train.run_dir={folder}", f"--data.cache_dir={base / 'cache'}"]
        # Where the MPI library keeps its files and its shared memory: what is left there is of no other job.
        self.own = {"TMPDIR": str(base / "tmp"), "OMPI_MCA_btl_sm_backing_directory": str(base / "shm")}
        self.start()

    def start(self) -> None:
        """Start, or go on."""
        with self.log.open("a") as log:
            self.launcher = subprocess.Popen(
                self.command, env=os.environ | self.own, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def processes(self, module: str = "dist_llm.train") -> list[psutil.Process]:
        """The ranks of this run, or with ``""`` all its processes."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                ours = f"--train.run_dir={self.folder}" in words
                if ours and (not module or (module in words and "-n" not in words)):
                    found.append(process)
        return found

    def finished(self) -> bool:
        """Whether it is at its end, which only its own mark says."""
        mark = read_end_mark(self.folder)
        return self.launcher.poll() is not None and mark is not None and mark.how == "finished"


class Faults:
    """What is done to a run, at random."""

    def __init__(self, rng: np.random.Generator, disk: bool, only: str | None) -> None:
        self.rng, self.count = rng, collections.Counter[str]()
        kinds = [self.kill, self.freeze, self.stop, self.kill_launcher, self.kill_mpirun, *[self.fill] * disk]
        self.kinds = [kind for kind in kinds if only is None or kind.__name__ in only.split(",")]

    def one(self, run: Run) -> None:
        """Let one of them happen."""
        fault = self.kinds[self.rng.integers(len(self.kinds))]
        if run.launcher.poll() is None and run.processes():
            self.count[fault.__name__] += 1
            with contextlib.suppress(psutil.NoSuchProcess):
                fault(run)

    def _any(self, processes: list[psutil.Process]) -> psutil.Process:
        return processes[self.rng.integers(len(processes))]

    def kill(self, run: Run) -> None:
        """Kill a rank."""
        self._any(run.processes()).kill()

    def freeze(self, run: Run) -> None:
        """Let a rank stand still for a while."""
        rank = self._any(run.processes())
        rank.suspend()
        time.sleep(FROZEN_S)
        rank.resume()

    def stop(self, run: Run) -> None:
        """Ask the launcher to stop, as a scheduler does."""
        run.launcher.send_signal([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1][self.rng.integers(4)])

    def kill_launcher(self, run: Run) -> None:
        """Kill the launcher; its ranks save, and nobody starts them again."""
        run.launcher.kill()

    def kill_mpirun(self, run: Run) -> None:
        """Kill mpirun, or what stands in for it."""
        others = [p for p in run.processes("") if p.pid != run.launcher.pid]
        ranks = {p.pid for p in run.processes()}
        between = [p for p in others if p.pid not in ranks]
        if between:
            self._any(between).kill()

    def fill(self, run: Run) -> None:
        """Fill the file system of the run for a while."""
        ballast = run.folder.parent / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
        time.sleep(FULL_S)
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, wanted: bool) -> Iterator[Path]:
    """Give an empty folder, on a small file system of its own if that can be had."""
    folder.mkdir()
    mounted = wanted and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    )
    try:
        yield folder
    finally:
        if mounted:
            subprocess.call(["umount", "--lazy", str(folder)])


def differences(run: Path, calm: Path) -> list[str]:
    """Compare the last checkpoints and the losses of two runs, every bit."""
    found = []
    last, expected = list_checkpoints(run)[-1], list_checkpoints(calm)[-1]
    for file in sorted(path.name for path in expected.glob("*.safetensors")):
        ours, theirs = load_file(last / file), load_file(expected / file)
        found += [f"{file}: {name}" for name in theirs if ours[name].tobytes() != theirs[name].tobytes()]
    losses = [[json.loads(x)["loss"] for x in (r / "metrics.jsonl").read_text().splitlines()] for r in (run, calm)]
    if losses[0] != losses[1]:
        found.append(f"losses: {len(losses[0])} of {len(losses[1])} steps")
    return found


def main() -> int:
    """Soak, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", help="only these, with commas between them (default: all)")
    parser.add_argument("--recover", action="store_true", help="let the ranks that are left go on when one dies")
    arguments = parser.parse_args()
    rng, end_s = np.random.default_rng(arguments.seed), time.monotonic() + 60 * arguments.minutes
    wishes = ["--restarts", "1000", "--grace-s", "30", *["--recover"] * arguments.recover]
    troubles, watch = list[str](), Watch()
    disk = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        for own in ("tmp", "shm", "calm"):
            (Path(name) / own).mkdir()
        calm = Run(Path(name) / "calm" / "run", Path(name), arguments.ranks, [])
        if calm.launcher.wait() or not calm.finished():
            print(calm.log.read_text()[-3000:])
            return 1
        faults = Faults(rng, disk, arguments.faults)
        number = 0
        while time.monotonic() < end_s:
            number += 1
            with small_disk(Path(name) / f"disk-{number}", disk) as folder:
                run = Run(folder / "run", Path(name), arguments.ranks, wishes)
                soak(run, faults, watch)
                troubles += [f"run {number}: {what}" for what in differences(run.folder, calm.folder)]
                litter = [p.name for p in run.folder.rglob("*") if p.name.endswith(".tmp")]
                troubles += [f"run {number}: {what} is left" for what in litter]
                troubles += [f"run {number}: process {p.pid} is left" for p in run.processes("")]
            print(f"run {number}: {sum(faults.count.values())} faults so far {dict(faults.count)}", flush=True)
        left = sorted(path.name for own in ("tmp", "shm") for path in (Path(name) / own).iterdir())
    print(f"{number} runs of {STEPS} steps on {arguments.ranks} ranks; faults: {dict(faults.count)}")
    print(f"rank 0: at most {watch.memory_bytes / 1e6:.0f} MB and {watch.files} open files")
    if left and not faults.count["kill_launcher"]:
        troubles.append(f"temporary files are left: {', '.join(left)}")
    elif left:  # who is killed does not tidy up
        print(f"left by a killed launcher: {', '.join(left)}")
    print(
        "\n".join(troubles) or "all weights, optimizer states and losses are equal in every bit; nothing else is left"
    )
    return bool(troubles)


class Watch:
    """The most memory and open files that rank 0 has been seen with."""

    memory_bytes = files = 0

    def look(self, run: Run) -> None:
        """Look at it now."""
        for process in run.processes():
            with contextlib.suppress(psutil.Error):
                if "0" in (process.environ().get(name) for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK")):
                    self.memory_bytes = max(self.memory_bytes, process.memory_info().rss)
                    self.files = max(self.files, process.num_fds())


def soak(run: Run, faults: Faults, watch: Watch) -> None:
    """Let faults happen to a run until it has finished, and go on with it wherever its launcher has ended."""
    next_s = time.monotonic() + faults.rng.exponential(MEAN_PAUSE_S)
    while not run.finished():
        time.sleep(0.1)
        if run.launcher.poll() is not None and not run.finished():
            psutil.wait_procs(run.processes(""), 60)  # those of a killed launcher end by themselves
            run.start()
        if time.monotonic() > next_s:
            watch.look(run)
            faults.one(run)
            next_s = time.monotonic() + faults.rng.exponential(MEAN_PAUSE_S)


if __name__ == "__main__":
    sys.exit(main())
