"""Kill ranks at random instants of runs that recover, and compare every bit with an undisturbed run.

    python -m tests.random_kills --n 100
    python -m tests.random_kills --n 20 --kills 3 --ranks 4 --signal STOP

In each run, some ranks are sent a signal: KILL, or STOP, after which the watchdog kills them. With the deterministic
strategy, weights, optimizer state and losses must come to be those of a run in which nothing died. Prints a line for
each run, and at the end how many were equal, and how long the others took to go on. Not part of the test suite.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

STEPS = 60
SETTINGS = [
    "--model.dim=64", "--model.n_layers=2", "--model.n_heads=4", "--model.ffn_dim=128", "--model.max_seq_len=64",
    "--data.tokenizer=byte", "--data.path=README.md", "--train.batch_size=16", f"--train.max_steps={STEPS}",
    "--train.eval_interval=10", "--train.checkpoint_interval=7", "--log.sample_tokens=8",
    "--parallel.strategy=deterministic", "--parallel.threads=1", "--optim.optimizer=muon", "--optim.average=0.9",
]  # fmt: skip
LEAVES = ("model.safetensors", "trained_weights.safetensors", "optimizer.safetensors")


def start(folder: Path, ranks: int, *more: str) -> subprocess.Popen:
    command = ["mpirun", "-n", str(ranks), "--with-ft", "ulfm", sys.executable, "-m", "dist_llm.train", *SETTINGS]
    command += [f"--data.cache_dir={folder.parent / 'cache'}", f"--train.run_dir={folder}", *more]
    log = (folder.parent / f"{folder.name}.log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def ranks_of(launcher: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(launcher.pid).children(recursive=True)
    return [process for process in children if "-m" in process.cmdline()[1:2]]


def left_by(folder: Path) -> tuple:
    """What a run has come to: its last weights and moments, and all its losses; and the losses of ranks."""
    checkpoint = folder / "checkpoints" / f"step-{STEPS:08d}"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [[record.get(key) for key in ("step", "loss", "grad_norm", "val_loss")] for record in records]
    lost = [loss for record in records for loss in record.get("lost", [])]
    return [(checkpoint / name).read_bytes() for name in LEAVES], losses, lost


def disturb(launcher: subprocess.Popen, folder: Path, kills: int, number: int, rng: random.Random) -> int:
    """Send the signals, the first one once training has begun; return how many ranks got one."""
    metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    ranks, sent = ranks_of(launcher), 0
    for _ in range(kills):
        time.sleep(rng.random() * 1.2 / kills)
        running = [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
        if len(running) < 2:
            break
        victim = rng.choice(running)
        ranks.remove(victim)
        victim.send_signal(number)
        sent += 1
    return sent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="runs")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--kills", type=int, default=1, help="ranks that are killed in each run")
    parser.add_argument("--signal", choices=("KILL", "STOP"), default="KILL")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="random-kills-"))
    rng, equal, sent, seconds = random.Random(arguments.seed), 0, 0, []
    if start(base / "undisturbed", arguments.ranks).wait():
        sys.exit(f"the undisturbed run failed: {base / 'undisturbed.log'}")
    expected = left_by(base / "undisturbed")[:2]
    for i in range(arguments.n):
        folder = base / f"run-{i}"
        launcher = start(folder, arguments.ranks, "--parallel.recover=true")
        number = getattr(signal, f"SIG{arguments.signal}")
        killed = disturb(launcher, folder, arguments.kills, number, rng)
        try:
            status = launcher.wait(120)
            *found, lost = left_by(folder)
            same = tuple(found) == expected
        except (subprocess.TimeoutExpired, OSError) as error:
            status, same, lost = repr(error), False, []
            for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
                process.kill()
        equal, sent = equal + same, sent + killed
        seconds += [loss["seconds"] for loss in lost]
        print(
            f"{folder.name}: {killed} killed, status {status}, {'equal' if same else 'DIFFERENT'}; {lost}", flush=True
        )
        if same:
            shutil.rmtree(folder)
    seconds = sorted(seconds) or [0.0]
    print(
        f"{equal} of {arguments.n} runs equal in every bit; {sent} ranks killed; going on took "
        f"{seconds[len(seconds) // 2]:.3f} s (median), {seconds[-1]:.3f} s at most"
    )
    if equal == arguments.n:
        shutil.rmtree(base)
    return 0 if equal == arguments.n else 1


if __name__ == "__main__":
    sys.exit(main())
