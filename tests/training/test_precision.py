"""Training with products of bfloat16 numbers: what is refused, what is kept, and that ranks agree in every bit."""

import importlib.util
import os
import subprocess
import sys

import pytest

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.fast import selection
from dist_llm.model.layers import PLAIN
from dist_llm.parallel.comm import SerialComm
from dist_llm.training import precision
from dist_llm.training.checkpoint_state import read_state
from dist_llm.training.run_dir import config_of
from tests.training.runs_on_ranks import COMMON, STEPS, assert_equal, folder, losses

here_too = pytest.mark.skipif(selection.missing("bfloat16") is not None, reason="no bfloat16 here")


def wanting(wanted: str) -> Config:
    return Config().replace({"model": {"precision": wanted}})


@pytest.mark.parametrize("lacking", ["numba is not installed", "the processor has no AVX512-BF16"])
def test_what_a_machine_cannot_is_refused_or_done_without(monkeypatch, lacking):
    for module in (precision, selection):
        monkeypatch.setattr(module, "missing", lambda precision: lacking)
    monkeypatch.setattr(precision, "compile_for", lambda precision: pytest.fail("nothing is to be compiled"))
    with pytest.raises(UserError, match=f"precision=bfloat16: {lacking}.*--model.precision=float32"):
        precision.settled(wanting("bfloat16"), SerialComm())
    assert precision.settled(wanting("auto"), SerialComm()).model.precision == "float32"
    assert precision.settled(wanting("float32"), SerialComm()).model.precision == "float32"


@pytest.mark.parametrize(("lacking", "best"), [([], "bfloat16"), (["bfloat16"], "float32-compiled")])
def test_auto_is_the_fastest_that_every_rank_can(monkeypatch, lacking, best):
    made = []
    monkeypatch.setattr(precision, "missing", lambda precision: "too old" if precision in lacking else None)
    monkeypatch.setattr(precision, "layers_of", lambda precision: made.append(("layers", precision)))
    monkeypatch.setattr(precision, "compile_for", lambda precision: made.append(("compiled", precision)))
    assert precision.settled(wanting("auto"), SerialComm()).model.precision == best
    assert made == [("layers", best), ("compiled", best)]


def test_numba_is_missed(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert "pip install 'dist_llm[fast]'" in selection.missing("float32-compiled")
    assert selection.layers_of("float32") is PLAIN


def test_nowhere_to_keep_what_is_compiled_is_one_line(tmp_path):
    if importlib.util.find_spec("numba") is None:
        pytest.skip("needs numba")
    nowhere = {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}
    environment = os.environ | nowhere | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator"}
    command = [sys.executable, "-m", "dist_llm.train", "--model.precision=bfloat16", f"--train.run_dir={tmp_path}/run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "NUMBA_CACHE_DIR" in done.stderr
    assert done.stderr.count("\n") == 1


@here_too
@pytest.mark.mpi
def test_deterministic_is_the_same_in_every_bit_and_goes_on_in_either_precision(world, train_on):
    options = [*COMMON, "--model.precision=auto", "--parallel.strategy=deterministic"]
    alone, ranks = (train_on(n, f"ranks-{n}", *options) for n in (0, world.size))
    assert_equal(folder(ranks), folder(alone))
    assert losses(ranks) == losses(alone)
    assert config_of(folder(ranks)).model.precision == "bfloat16"
    assert read_state(folder(ranks))["precision"] == "bfloat16"
    plain = losses(train_on(0, "plain", *COMMON, "--parallel.strategy=deterministic"))
    assert 0 < abs(losses(ranks)[-1][1] - plain[-1][1]) < 0.05
    more = STEPS + 2
    train_on(world.size, None, "--resume", str(ranks), f"--train.max_steps={more}", "--model.precision=float32")
    assert config_of(folder(ranks, more)).model.precision == "float32"
