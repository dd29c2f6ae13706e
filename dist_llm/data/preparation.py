"""Preparation: corpus to shards, once; every later run finds the folder and starts at once.

A prepared folder holds the shards, the tokenizer and `meta.json`, what a person wants to know about them. Its
name ends in a hash of everything that determines its content, so other settings make another folder and
equal ones find this one. It appears complete or not at all. Two preparations at the same time do the work twice, and
the second one's is thrown away.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dist_llm.atomic import whole_folder
from dist_llm.config import DataConfig
from dist_llm.data.corpora import Corpus, find_corpus
from dist_llm.data.loader import CountedTokens, Tokens
from dist_llm.data.pairs import COUNTED, write_pairs
from dist_llm.data.shards import TokenShards, write_shards
from dist_llm.data.split import split_documents
from dist_llm.errors import UserError
from dist_llm.text import Tokenizer, is_file, load_tokenizer, save_tokenizer, train_tokenizer

# Raised when equal settings come to mean other tokens; folders of an older version are then no longer found.
VERSION = 2
READABLE = (1, VERSION)  # a text that was cut by an older version's rules is a text all the same


class Data(NamedTuple):
    """A prepared text.

    Attributes
    ----------
    tokenizer : Tokenizer
        Tokenizer that made the tokens.
    train, val : Tokens
        The two splits; of a folder, `TokenShards`.
    """

    tokenizer: Tokenizer
    train: Tokens
    val: Tokens


def prepare(config: DataConfig, progress: bool = False, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the folder of prepared shards, making it if it is missing.

    Parameters
    ----------
    config : DataConfig
        ``shards`` names the folder; without it, one inside ``cache_dir`` is named after the other fields. A
        folder that ``shards`` names is used whatever text it was made of.
    progress : bool
        Show bars on stderr.
    say : callable, optional
        Is told in a line what is made, if something is.

    Returns
    -------
    Path
        For `open_data`.

    Raises
    ------
    UserError
        No text, a text too short to split, no place to write, or prepared shards of another tokenizer.
    """
    if config.shards is not None and Path(config.shards).expanduser().exists():
        folder = Path(config.shards).expanduser()  # made before, perhaps of a text that is no longer there
    else:
        corpus = find_corpus(config)
        key = _key(corpus, config)
        in_cache = Path(config.cache_dir) / f"{corpus.name}-{_name(config.tokenizer)}-{key[:12]}"
        folder = Path(config.shards or in_cache).expanduser()
        if not folder.exists():
            say(f"preparing {config.path or config.corpus}, once; the tokens are kept in {folder}")
            _make(folder, key, corpus, config, progress)
    meta = _read_meta(folder)
    kind, completions = meta["tokenizer"], meta.get("completions", False)
    if completions != config.completions:
        made = "with" if completions else "without"
        raise UserError(
            f"the shards in {folder} were made {made} data.completions=true: say --data.completions="
            f"{str(completions).lower()}, or name another folder with --data.shards"
        )
    if is_file(config.tokenizer):
        same = load_tokenizer(folder).fingerprint == load_tokenizer(config.tokenizer).fingerprint
    else:
        same = kind == config.tokenizer
    if not same:
        raise UserError(
            f"the shards in {folder} were made with --data.tokenizer={kind}, not {config.tokenizer}: "
            f"say --data.tokenizer={kind}, or name another folder with --data.shards"
        )
    return folder


def open_data(folder: Path, verify: bool = False) -> Data:
    """Open a prepared folder.

    Parameters
    ----------
    verify : bool
        Read every byte of the shards, and compare it with what was written.

    Raises
    ------
    UserError
        Something is missing or damaged, or the parts do not belong together.
    """
    meta = _read_meta(folder)
    tokenizer = load_tokenizer(folder)
    train, val = TokenShards(folder, "train"), TokenShards(folder, "val")
    parts = [("train", train), ("val", val)]
    if meta.get("completions", False):
        marks = {split: TokenShards(folder, f"{COUNTED}-{split}") for split in ("train", "val")}
        parts += list(marks.items())
    for split, shards in parts:
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
        if verify:
            shards.verify()
    if meta.get("completions", False):
        return Data(tokenizer, CountedTokens(train, marks["train"]), CountedTokens(val, marks["val"]))
    return Data(tokenizer, train, val)


def _key(corpus: Corpus, config: DataConfig) -> str:
    tokenizer = load_tokenizer(config.tokenizer).fingerprint if is_file(config.tokenizer) else config.tokenizer
    fields = [VERSION, corpus.key, tokenizer, config.val_fraction]
    # Only a BPE has a size to choose: for the others data.vocab_size changes nothing.
    fields += [config.vocab_size] if config.tokenizer == "bpe" else []
    fields += ["completions"] if config.completions else []
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _name(tokenizer: str) -> str:
    """Return what a tokenizer is called in the name of a folder."""
    return Path(tokenizer).resolve().parent.name[:40] if is_file(tokenizer) else tokenizer


def _make(folder: Path, key: str, corpus: Corpus, config: DataConfig, progress: bool) -> None:
    try:
        with whole_folder(folder, uuid.uuid4().hex[:8]) as partial:
            if config.completions:
                write_pairs(partial, {"version": VERSION, "key": key, "corpus": corpus.name}, config)
            else:
                _write(partial, key, corpus, config, progress)
    except OSError as error:
        # A folder cannot replace one that is not empty: another process was first, and its work is as good.
        if (folder / "meta.json").exists():
            return
        option = "--data.cache_dir" if config.shards is None else "--data.shards"
        raise UserError(
            f"cannot write prepared shards to {folder.parent} ({error.strerror}): name another folder with {option}"
        ) from error


def _write(folder: Path, key: str, corpus: Corpus, config: DataConfig, progress: bool) -> None:
    start = time.perf_counter()
    text = corpus.read(progress)
    train, val = split_documents(text.documents, config.val_fraction)
    if not train or not val:
        raise UserError(
            f"{corpus.name} has {sum(map(len, text.documents))} characters, and with --data.val_fraction="
            f"{config.val_fraction} none is left to {'validate' if train else 'train'} on: use a longer text"
        )
    # Merges are learned from the training text alone, as the weights are. An alphabet must hold the
    # characters of both, since it cannot write a missing one; it does not tell the model how they are used.
    if is_file(config.tokenizer):
        tokenizer = load_tokenizer(config.tokenizer)
    else:
        known = train + val if config.tokenizer == "char" else train
        tokenizer = train_tokenizer(config.tokenizer, known, config.vocab_size)
    save_tokenizer(tokenizer, folder)
    splits = {"train": train, "val": val}
    for split, documents in splits.items():
        write_shards(folder, split, documents, tokenizer, progress=progress)
    shards = {split: TokenShards(folder, split) for split in splits}
    meta = {
        "version": VERSION,
        "key": key,
        "corpus": corpus.name,
        "description": text.description,
        "tokenizer": config.tokenizer,
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
        meta: dict[str, Any] = json.loads(path.read_bytes())
        if meta["version"] not in READABLE:
            raise UserError(
                f"{folder} has format {meta['version']}, and this dist_llm reads 1 and {VERSION}: "
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
