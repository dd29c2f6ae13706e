"""A run folder: who may have it, and what a run that came to nothing leaves of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dist_llm.errors import UserError
from dist_llm.training.run_dir import check_run_dir_is_free, created_run_dir, locked
from tests.conftest import environment


@pytest.mark.parametrize("left", ["an empty config.toml", "a whole config.toml", "half of everything"])
def test_a_start_that_came_to_nothing_does_not_block_another(train, tmp_path, left):
    run = tmp_path / "run"
    (run / "checkpoints" / ".step-00000001@node-17-0.tmp").mkdir(parents=True)
    (run / "config.toml").touch()
    if left != "an empty config.toml":
        (run / "config.toml").write_text("[train]\nseed = 3\n")
    if left == "half of everything":
        for name in (".config.toml.tmp", ".lock", "tokenizer.json", "metrics.jsonl"):
            (run / name).write_text('{"st')
    status, _, err = train(None, "--resume", "run")
    assert status == 2
    assert (
        err == "error: run holds no checkpoint: a run that ended before its first one begins anew, without --resume\n"
    )
    status, _, err = train("run", "--train.max_steps=2")
    assert status == 0, err
    assert not [path for path in run.rglob("*") if path.suffix == ".tmp"]
    assert train(None, "--resume", "run", "--train.max_steps=3")[0] == 0


@pytest.mark.parametrize("name", ["notes.txt", "samples/step-00000010.txt", "metrics.jsonl", "checkpoints/x"])
def test_what_somebody_may_want_is_not_overwritten(tmp_path, name):
    (tmp_path / "config.toml").touch()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"step": 1}\n')
    message = "already holds a run, without a checkpoint: if it is no longer under way, delete the folder; or choose"
    with pytest.raises(UserError, match=message):
        check_run_dir_is_free(str(tmp_path))
    (tmp_path / "config.toml").unlink()
    with pytest.raises(UserError, match="exists and is not an empty folder: choose another"):
        check_run_dir_is_free(str(tmp_path))


def test_a_run_that_is_just_starting_keeps_its_folder(tmp_path):
    with created_run_dir(str(tmp_path / "run")) as folder:
        (folder / "config.toml").touch()
        check_run_dir_is_free(str(folder))  # there is nothing yet that tells; but it is held
        with pytest.raises(UserError, match="another process is training the run"), created_run_dir(str(folder)):
            pass
        (folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(UserError, match="already holds a run: --resume"), created_run_dir(str(folder)):
        pass


def test_a_lock_does_not_outlive_its_process_even_if_that_has_children(tmp_path):
    program = """
import os, subprocess, sys
from pathlib import Path
from dist_llm.training.run_dir import locked
with locked(Path(sys.argv[1])):
    # Without the pipes whose end is waited for below.
    child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(child.pid, flush=True)
    os.kill(os.getpid(), 9)
"""
    result = subprocess.run([sys.executable, "-c", program, tmp_path], env=environment(), capture_output=True)
    try:
        assert result.returncode == -9
        assert Path(f"/proc/{int(result.stdout)}").exists()
        with locked(tmp_path):
            pass
    finally:
        os.kill(int(result.stdout), 9)
