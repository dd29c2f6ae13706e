"""Settings that nobody means end a run at once, in one line, or do no harm."""

import re

import pytest

LIMIT_S = 60


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.batch_size=1000000000", "tokens in a step, above 67,108,864: lower one of them"),
        ("train.batch_size=1000000", "a step would go through it .* times; lower --train.batch_size"),
        ("model.vocab_size=1000000000", r"needs \d+ GB on every rank"),
        ("model.max_seq_len=1000000000", "tokens in a step, above 67,108,864: lower one of them"),
        ("model.max_seq_len=1000000", "use a longer text or a smaller --model.max_seq_len"),
        ("model.n_layers=1000000", r"1,000,000 layers, however small, take \d+ GB"),
        ("model.ffn_dim=1000000000", r"needs [\d,]+ GB on every rank"),
        ("train.max_steps=1" + 30 * "0", "must be at most 9223372036854775807"),
        ("train.max_steps=1" + 5000 * "0", "takes a whole number"),
        ("train.eval_interval=-1", "must not be negative"),
        ("train.keep_checkpoints=0", "must be above 0"),
        ("optim.lr=nan", "must be a finite number"),
        ("model.norm_eps=1e200", "must be at most"),
    ],
)
def test_refused_in_one_line(run, train_arguments, tmp_path, setting, message):
    result = run(0, *train_arguments("run", f"--{setting}"))
    assert result.returncode == 2
    assert re.fullmatch(f"error: .*{message}.*\n", result.stderr), result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "setting",
    [
        "parallel.threads=1000000",
        "train.micro_batch_size=1000000000",
        "log.sample_tokens=1000000000",
        "optim.warmup_steps=1000000000",
        "train.checkpoint_interval=1000000000",
        "model.init_std=0",
        "optim.eps=1e-300",
        "optim.beta1=0.9999999999999999",
    ],
)
def test_harmless(start, train_arguments, setting):
    result = start(0, *train_arguments("run", "--train.max_steps=2", f"--{setting}")).wait(LIMIT_S)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.mpirun
def test_buckets_of_a_byte(start, train_arguments):
    """Of 400,000 parameters: as many messages would take minutes a step."""
    more = ("--train.max_steps=3", "--parallel.bucket_bytes=1", "--model.dim=128", "--model.ffn_dim=256")
    result = start(2, *train_arguments("run", *more)).wait(LIMIT_S)
    assert result.returncode == 0, result.stderr
