"""Preparation: corpus to shards, once; every later run finds the folder and starts at once.

A prepared folder holds the shards, the tokenizer and `meta.json`, what a person wants to know about them. Its
name ends in a hash of everything that determines its content, so other settings make another folder and
equal ones find this one. It appears complete or not at all: everything is written under a temporary name, and
renamed at the end. Two preparations at the same time do the work twice, and the second one's is thrown away.
"""

import hashlib
import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from dist_llm.config import DataConfig
from dist_llm.data.corpora import corpus_key, corpus_name, read_corpus
from dist_llm.data.shards import TokenShards, write_shards
from dist_llm.data.split import split_documents
from dist_llm.durable import fsync
from dist_llm.errors import UserError
from dist_llm.text import Tokenizer, load_tokenizer, save_tokenizer, train_tokenizer

# Raised when equal settings come to mean other tokens; folders of an older version are then no longer found.
VERSION = 1


def prepare(config: DataConfig, progress: bool = False) -> Path:
    """Return the folder of prepared shards, making it if it is missing.

    Parameters
    ----------
    config : DataConfig
        ``shards`` names the folder; without it, one inside ``cache_dir`` is named after the other fields. A
        folder that ``shards`` names is used whatever text it was made of.
    progress : bool
        Show bars on stderr.

    Returns
    -------
    Path
        For `open_data`.

    Raises
    ------
    UserError
        No text, a text too short to split, no place to write, or prepared shards of another tokenizer.
    """
    folder = shard_folder(config)
    if not folder.exists():
        _make(folder, config, progress)
    kind = _read_meta(folder)["tokenizer"]
    if kind != config.tokenizer:
        raise UserError(
            f"the shards in {folder} were made with --data.tokenizer={kind}, not {config.tokenizer}: "
            f"say --data.tokenizer={kind}, or name another folder with --data.shards"
        )
    return folder


def shard_folder(config: DataConfig) -> Path:
    """Return the folder that `prepare` finds or makes.

    Raises
    ------
    UserError
        There is no such text.
    """
    if config.shards is not None:
        return Path(config.shards).expanduser()
    return Path(config.cache_dir).expanduser() / f"{corpus_name(config)}-{config.tokenizer}-{_key(config)[:12]}"


def open_data(folder: Path) -> tuple[Tokenizer, TokenShards, TokenShards]:
    """Open a prepared folder.

    Returns
    -------
    tokenizer : Tokenizer
        What the tokens mean.
    train, val : TokenShards
        The two splits.

    Raises
    ------
    UserError
        Something is missing or damaged, or the parts do not belong together.
    """
    meta = _read_meta(folder)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    train, val = TokenShards(folder, "train"), TokenShards(folder, "val")
    for split, shards in (("train", train), ("val", val)):
        if shards.tokenizer_fingerprint != tokenizer.fingerprint:
            raise UserError(
                f"the {split} shards in {folder} were made by another tokenizer than its tokenizer.json: "
                "delete the folder and prepare it again"
            )
        # The last of several shards may be missing, which the shards themselves cannot tell.
        if len(shards) != meta["tokens"][split]:
            raise UserError(
                f"{folder} holds {len(shards):,} {split} tokens instead of {meta['tokens'][split]:,}: "
                "delete the folder and prepare it again"
            )
    return tokenizer, train, val


def _key(config: DataConfig) -> str:
    fields = [VERSION, corpus_key(config), config.tokenizer, config.val_fraction]
    # Only a BPE has a size to choose: for the others data.vocab_size changes nothing.
    fields += [config.vocab_size] if config.tokenizer == "bpe" else []
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _make(folder: Path, config: DataConfig, progress: bool) -> None:
    key = _key(config)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        _write(partial, key, config, progress)
        for path in (*partial.iterdir(), partial):
            fsync(path)
        partial.rename(folder)
        fsync(folder.parent)
    except OSError as error:
        # A folder cannot replace one that is not empty: another process was first, and its work is as good.
        if (folder / "meta.json").exists():
            return
        option = "--data.cache_dir" if config.shards is None else "--data.shards"
        raise UserError(
            f"cannot write prepared shards to {folder.parent} ({error.strerror}): name another folder with {option}"
        ) from error
    finally:
        # An error or an interrupt leaves nothing half made; after the rename there is nothing to remove.
        shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, key: str, config: DataConfig, progress: bool) -> None:
    start = time.perf_counter()
    corpus = read_corpus(config, progress)
    train, val = split_documents(corpus.documents, config.val_fraction)
    if not train or not val:
        raise UserError(
            f"{corpus.name} has {sum(map(len, corpus.documents))} characters, and with --data.val_fraction="
            f"{config.val_fraction} none is left to {'validate' if train else 'train'} on: use a longer text"
        )
    # Merges are learned from the training text alone, as the weights are. An alphabet must hold the
    # characters of both, since it cannot write a missing one; it does not tell the model how they are used.
    known = train + val if config.tokenizer == "char" else train
    tokenizer = train_tokenizer(config.tokenizer, known, config.vocab_size)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    splits = {"train": train, "val": val}
    for split, documents in splits.items():
        write_shards(folder, split, documents, tokenizer, progress=progress)
    shards = {split: TokenShards(folder, split) for split in splits}
    meta = {
        "version": VERSION,
        "key": key,
        "corpus": corpus.name,
        "description": corpus.description,
        "tokenizer": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "val_fraction": config.val_fraction,
        "documents": {split: len(documents) for split, documents in splits.items()},
        "characters": {split: sum(map(len, documents)) for split, documents in splits.items()},
        "bytes": {split: s.n_bytes for split, s in shards.items()},
        "tokens": {split: len(s) for split, s in shards.items()},
        "seconds": round(time.perf_counter() - start, 2),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_bytes())
        if meta["version"] != VERSION:
            raise UserError(
                f"{folder} has format {meta['version']}, and this dist_llm reads {VERSION}: "
                "delete the folder and prepare it again"
            )
        # What is used of it; a missing one is a KeyError here rather than later.
        meta["tokenizer"], meta["tokens"]["train"], meta["tokens"]["val"]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no prepared shards (no meta.json): name one that does, or a new one"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): name another folder") from error
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: delete the folder and prepare it again") from error
    return meta
