"""The files that a stranger may have made, each in the folder where it is read, and what reads it.

`read` of a kind returns what a user gets out of the file, in a form that can be compared: a mutation that is accepted
must change nothing of it, where a checksum guards the file.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from dist_llm.atomic import sha256
from dist_llm.config import Config, DataConfig, ModelConfig
from dist_llm.data.preparation import open_data, prepare
from dist_llm.data.shards import HEADER_BYTES
from dist_llm.errors import UserError
from dist_llm.interop.huggingface import model_files, write
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.text import load_tokenizer, save_tokenizer, train_tokenizer
from dist_llm.training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from dist_llm.training.checkpoint_state import STATE, digest_of
from dist_llm.training.load_run import load
from dist_llm.training.metrics import MetricsLog, evaluations_since_best, read_metrics
from dist_llm.training.run_dir import CHECKSUM, config_of, write_config

TEXT = "The king and his men went up the hill, and down the hill again. " * 30
MODEL = ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=12, max_seq_len=16)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
    path : Path
        The file that is mutated.
    read : callable
        Reads it; a `UserError` is how it is refused.
    guarded : bool
        Whether a checksum says what the file was: damage is then never accepted.
    sign : callable, optional
        Computes the checksum anew, as whoever means harm would do. What is accepted then is as good as another file;
        but nothing may fail on it.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    guarded: bool = True
    sign: Callable[[], None] | None = None

    def signed(self, sign: Callable[[], None]) -> "Kind":
        """Return the kind with the checksum computed anew after each mutation."""
        return replace(self, name=f"{self.name}, signed", guarded=False, sign=sign)


def make_kinds(folder: Path) -> list[Kind]:
    """Write every kind of file into a folder, and return them."""
    run = make_run(folder / "run", "bpe")
    checkpoint = run / "checkpoints/step-00000002"
    theirs = make_foreign(folder / "theirs")
    split = make_foreign(folder / "split", split=True)
    shards = make_shards(folder / "prepared")
    config = Kind("config.toml", run / "config.toml", lambda: resumed_content(run))
    kinds = [config, config.signed(lambda: sign_config(run))]
    for name in ("state.json", "model.safetensors", "optimizer.safetensors", "config.json"):
        kind = Kind(name, checkpoint / name, lambda: resumed_content(run))
        kinds += [kind, kind.signed(lambda: sign_checkpoint(checkpoint))]
    shard = Kind("shard .bin", shards / "train-00000.bin", lambda: data_content(shards))
    kinds += [
        shard,
        shard.signed(lambda: sign_shard(shards / "train-00000.bin")),
        Kind("meta.json of shards", shards / "meta.json", lambda: data_content(shards)),
        Kind("metrics.jsonl", run / "metrics.jsonl", partial(metrics_content, run, read_metrics(run))),
        Kind("theirs: config.json", theirs / "config.json", lambda: foreign_content(theirs), guarded=False),
        Kind("theirs: model.safetensors", theirs / "model.safetensors", lambda: foreign_content(theirs), guarded=False),
        Kind("theirs: index.json", split / "model.safetensors.index.json", lambda: foreign_content(split)),
    ]
    for name in ("bpe", "char", "byte"):
        of = run if name == "bpe" else make_run(folder / name, name)
        kinds.append(Kind(f"tokenizer.json of a run, {name}", of / "tokenizer.json", partial(run_content, of)))
        alone = Path(shutil.copy(of / "tokenizer.json", folder / f"{name}.json"))
        kinds.append(Kind(f"tokenizer.json, {name}", alone, partial(tokenizer_content, alone), guarded=False))
    return kinds


def sign_config(run: Path) -> None:
    """Compute the checksum of a configuration anew."""
    path = run / "config.toml"
    _, _, text = path.read_bytes().partition(b"\n")
    path.write_bytes(CHECKSUM + hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def sign_checkpoint(checkpoint: Path) -> None:
    """Compute the checksums of a checkpoint anew, as far as its state.json can be read."""
    path = checkpoint / STATE
    try:
        document = json.loads(path.read_bytes())
        del document["sha256"][STATE]
        for name in document["sha256"]:
            document["sha256"][name] = sha256(checkpoint / name)
        document["sha256"][STATE] = digest_of(document)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return
    path.write_text(json.dumps(document, indent=1) + "\n")


def sign_shard(path: Path) -> None:
    """Compute the checksum of a shard anew."""
    content = path.read_bytes()
    if len(content) >= HEADER_BYTES:
        digest = hashlib.sha256(content[:64] + content[HEADER_BYTES:]).digest()
        path.write_bytes(content[:64] + digest + content[96:])


def make_run(run: Path, tokenizer_kind: str) -> Path:
    """Write a run of two steps, as training leaves it."""
    tokenizer = train_tokenizer(tokenizer_kind, [TEXT], 280)
    config = Config(model=MODEL).with_vocabulary(tokenizer.vocab_size)
    config = config.replace({"train": {"batch_size": 7, "seed": 3}, "optim": {"lr": 0.002}})
    model = new_model(config.model)
    rng = np.random.default_rng(1)
    optimizer = {"steps": np.array([2])}
    for moment in ("m", "v"):
        optimizer |= {f"{moment}.{p.name}": rng.random(p.shape, np.float32) for p in model.params}
    state = {
        "step": 2, "tokens": 2 * 7 * MODEL.max_seq_len, "val_loss": 3.25, "seed": 3, "shards": "/nowhere",
        "train_tokens": "0" * 64,
    }  # fmt: skip
    texts = model_files(config.model, config.vocab_size, tokenizer)
    run.mkdir(parents=True)
    save_checkpoint(run, {"model": model.state_dict(), "optimizer": optimizer}, state, texts)
    write_config(run, config)
    save_tokenizer(tokenizer, run)
    metrics = MetricsLog(run, 0)
    for step in range(1, 9):
        record = {"step": step, "tokens": step * 112, "loss": 5.5 - step / 8, "lr": 0.001, "tokens_per_s": 812.0}
        metrics.write(record | ({"val_loss": 5.25 - step / 16} if step % 2 == 0 else {}))
    metrics.close()
    return run


def make_foreign(folder: Path, split: bool = False) -> Path:
    """Write a model as Hugging Face has it, in one file or in two with an index."""
    tokenizer = train_tokenizer("byte", [], 0)
    model = new_model(Config(model=MODEL).with_vocabulary(tokenizer.vocab_size).model)
    folder.mkdir()
    write(folder, model, tokenizer)
    if split:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        files = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
        for file, inside in files.items():
            save_file({name: tensors[name] for name in inside}, folder / file)
        weight_map = {name: file for file, inside in files.items() for name in inside}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}, indent=1))
    return folder


def make_shards(folder: Path) -> Path:
    """Prepare a text."""
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    config = DataConfig(path=str(folder / "text.txt"), tokenizer="bpe", vocab_size=270, cache_dir=str(folder / "cache"))
    return prepare(config)


def new_model(config: ModelConfig) -> Llama:
    """Return a model with random weights."""
    assert config.vocab_size is not None
    model = Llama(config, config.vocab_size)
    model.params.initialize(np.random.default_rng(0))
    return model


def resumed_content(run: Path) -> Any:
    """Return what a resumed run takes from its folder."""
    checkpoint = find_checkpoint(run)
    config = config_of(checkpoint)
    parts, state = load_checkpoint(checkpoint, config.model)
    model = Llama(config.model, config.vocab_size)
    model.load_state_dict(parts["model"])
    optimizer = AdamW(model.params, config.optim)
    optimizer.load_state_dict(parts.get("optimizer", {}))
    arrays = [array.tobytes() for array in (model.params.data, optimizer.m, optimizer.v)]
    return config, json.dumps(state, sort_keys=True), arrays, optimizer.steps


def run_content(run: Path) -> Any:
    """Return what `generate` takes from a run."""
    lm = load(run)
    return lm.config, lm.state, lm.model.params.data.tobytes(), tokenizer_of(lm.tokenizer)


def foreign_content(folder: Path) -> Any:
    """Return what `generate` takes from another program's folder."""
    lm = load(folder)
    return lm.config, lm.model.params.data.tobytes(), tokenizer_of(lm.tokenizer)


def tokenizer_content(path: Path) -> Any:
    """Return what a tokenizer does."""
    return tokenizer_of(load_tokenizer(path))


def tokenizer_of(tokenizer: Any) -> Any:
    """Return what a tokenizer does; it is also made to do it."""
    try:
        tokens = tokenizer.encode(TEXT[:200], allow_special=True)
        assert tokenizer.decode_bytes(tokens)
        return tokenizer.fingerprint, tokens.tobytes()
    except UserError as error:
        return tokenizer.fingerprint, str(error)


def data_content(folder: Path) -> Any:
    """Return what training and evaluation take from prepared shards."""
    data = open_data(folder, verify=True)
    tokens = [split.read(0, len(split)) for split in (data.train, data.val)]
    assert all((ids >= 0).all() and (ids < data.tokenizer.vocab_size).all() for ids in tokens)
    return data.tokenizer.fingerprint, [ids.tobytes() for ids in tokens], data.train.n_bytes, data.val.n_bytes


def metrics_content(run: Path, written: list[dict[str, Any]]) -> Any:
    """Whether all that a resumed run takes from the metrics was written; damaged lines are left out."""
    evaluations_since_best(run, 8)
    return all(record in written for record in read_metrics(run))
