"""Preparation: corpus to shards, once; every later run finds the folder and starts at once.

A prepared folder holds the shards, the tokenizer and `meta.json`, what a person wants to know about them. Its
name ends in a hash of everything that determines its content, so other settings make another folder and
equal ones find this one. It appears complete or not at all. Two preparations at the same time do the work twice, and
the second one's is thrown away.

    corpus --Spool--> documents in a file --split, weighted--> slices of it --encode--> shards

No stage holds the text: a document is read when its turn comes. Until the folder is whole, what is finished of it (the
documents, the tokenizer, each shard) stands in a `.partial` folder, from which an interrupted preparation goes on.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from dist_llm.atomic import whole_folder, write_text
from dist_llm.config import DataConfig
from dist_llm.data.corpora import Corpus, Say, find_corpus
from dist_llm.data.encoding import encode
from dist_llm.data.loader import CountedTokens, Tokens
from dist_llm.data.pairs import COUNTED, write_pairs
from dist_llm.data.partial_folder import LOCK, continued_folder, partial_path
from dist_llm.data.shards import TokenShards
from dist_llm.data.split import split, weighted
from dist_llm.data.spool import SPOOL_FILES, Documents, Spool, checksums
from dist_llm.data.vocabulary import find_tokenizer
from dist_llm.data.workers import Workers
from dist_llm.errors import UserError
from dist_llm.regular_file import read_json
from dist_llm.text import Tokenizer, is_file, load_tokenizer

# Raised when equal settings come to mean other tokens; folders of an older version are then no longer found.
VERSION = 2
SPOOLED = "documents.json"  # says that all documents are written down, and with which checksums
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


def prepare(config: DataConfig, progress: bool = False, say: Say = lambda line: None, n_workers: int = 1) -> Path:
    """Return the folder of prepared shards, making it if it is missing.

    Parameters
    ----------
    config : DataConfig
        ``shards`` names the folder; without it, one inside ``cache_dir`` is named after the other fields. A
        folder that ``shards`` names is used whatever text it was made of.
    progress : bool
        Show on stderr how far it is: bars, or if it is no terminal a line now and then.
    say : callable, optional
        Is told in a line what is made, if something is.
    n_workers : int
        Processes that share the work. The shards are the same for any number of them. With more than one, the main
        module of the program must be one that can be imported.

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
            _make(folder, key, corpus, config, progress, say, n_workers)
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
    train, val = (TokenShards(folder, split, tokenizer.vocab_size) for split in ("train", "val"))
    parts = [("train", train), ("val", val)]
    if meta.get("completions", False):
        marks = {split: TokenShards(folder, f"{COUNTED}-{split}", 2) for split in ("train", "val")}
        parts += list(marks.items())
    elif any(folder.glob(f"{COUNTED}-*")):
        raise UserError(f"{folder / 'meta.json'} is damaged: delete the folder and prepare it again")
    for name, shards in parts:
        if shards.tokenizer_fingerprint != tokenizer.fingerprint:
            raise UserError(
                f"the {name} shards in {folder} were made by another tokenizer than its tokenizer.json: "
                "delete the folder and prepare it again"
            )
        # The last of several shards may be missing, which the shards themselves cannot tell.
        if len(shards) != meta["tokens"][name]:
            raise UserError(
                f"{folder} holds {len(shards):,} {name} tokens instead of {meta['tokens'][name]:,}: "
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
    fields += [config.pattern] if config.tokenizer == "bpe" and config.pattern != "gpt2" else []
    fields += ["completions"] if config.completions else []
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _name(tokenizer: str) -> str:
    """Return what a tokenizer is called in the name of a folder."""
    return Path(tokenizer).resolve().parent.name[:40] if is_file(tokenizer) else tokenizer


def _make(folder: Path, key: str, corpus: Corpus, config: DataConfig, progress: bool, say: Say, n_workers: int) -> None:
    try:
        if config.completions:  # soon done, so that an interrupted one just begins again
            with whole_folder(folder) as partial:
                write_pairs(partial, {"version": VERSION, "key": key, "corpus": corpus.name}, config)
            return
        with continued_folder(folder) as partial, Workers(n_workers) as workers:
            _write(partial, key, corpus, config, progress, say, workers)
    except KeyboardInterrupt:
        if (kept := partial_path(folder)).exists():
            say(f"the same command goes on where this one stopped; what is done is kept in {kept}")
        raise
    except OSError as error:
        # A folder cannot replace one that is not empty: another process was first, and its work is as good.
        if (folder / "meta.json").exists():
            return
        option = "--data.cache_dir" if config.shards is None else "--data.shards"
        raise UserError(
            f"cannot write prepared shards to {folder.parent} ({error.strerror}): name another folder with {option}"
        ) from error


def _write(
    folder: Path, key: str, corpus: Corpus, config: DataConfig, progress: bool, say: Say, workers: Workers
) -> None:
    start = time.perf_counter()
    description = _spooled(folder, key, corpus, progress, say)
    with Documents(folder) as documents:
        train, val = split(documents, config.val_fraction)
        n_chars = train.n_chars + val.n_chars
        train = weighted(train, documents, corpus.weights)
        if not len(train) or not len(val):
            raise UserError(
                f"{corpus.name} has {n_chars} characters, and with --data.val_fraction={config.val_fraction} none is "
                f"left to {'validate' if len(train) else 'train'} on: use a longer text"
            )
        splits = {"train": train, "val": val}
        n_sources = len(corpus.weights)
        tokenizer = find_tokenizer(folder, splits, n_sources, documents, config, workers, progress)
        for name, texts in splits.items():
            encode(folder, name, texts, documents, tokenizer, workers, progress)
    shards = {name: TokenShards(folder, name) for name in splits}
    meta = {
        "version": VERSION,
        "key": key,
        "corpus": corpus.name,
        "description": description,
        "tokenizer": config.tokenizer,
        "vocab_size": tokenizer.vocab_size,
        "val_fraction": config.val_fraction,
        "documents": {name: len(texts) for name, texts in splits.items()},
        "characters": {name: texts.n_chars for name, texts in splits.items()},
        "bytes": {name: s.n_bytes for name, s in shards.items()},
        "tokens": {name: len(s) for name, s in shards.items()},
        "seconds": round(time.perf_counter() - start, 2),
    }
    write_text(folder / "meta.json", json.dumps(meta, indent=2) + "\n")
    for spooled in (SPOOLED, *SPOOL_FILES):
        (folder / spooled).unlink()


def _spooled(folder: Path, key: str, corpus: Corpus, progress: bool, say: Say) -> str:
    """Write the documents of a corpus down in a folder, unless that was done before; return what describes them."""
    try:
        done = read_json(folder / SPOOLED)
        if done["key"] == key and done["checksums"] == checksums(folder):
            say(f"going on with what an interrupted preparation has left in {folder}")
            return str(done["description"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or it is damaged
    for old in folder.iterdir():  # of another text, or other settings
        if old.name != LOCK:
            old.unlink()
    with Spool(folder) as spool:
        description = corpus.read(spool, progress, say)
    done = {"key": key, "description": description, "checksums": checksums(folder)}
    write_text(folder / SPOOLED, json.dumps(done))
    return description


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    try:
        meta: dict[str, Any] = read_json(path)
        version, damaged = meta["version"], False
        if version in READABLE:  # what is used of it: a wrong one is an error here rather than later
            used = meta["tokens"]["train"], meta["tokens"]["val"], meta["tokenizer"], meta.get("completions", False)
            damaged = [type(value) for value in used] != [int, int, str, bool]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no prepared shards (no meta.json): name one that does, or a new one"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): name another folder") from error
    except (KeyError, TypeError, AttributeError, ValueError):
        damaged, version = True, VERSION
    if version not in READABLE:
        raise UserError(
            f"{folder} has format {version}, and this dist_llm reads 1 and {VERSION}: "
            "delete the folder and prepare it again"
        )
    if damaged:
        raise UserError(f"{path} is damaged: delete the folder and prepare it again")
    return meta
