"""Pairs of a prompt and a completion, for training on instructions: only the completions are learned.

    {"prompt": "What is 2 + 3? ", "completion": "5"}          one pair per line (JSON Lines)

Tokens of all pairs lie one behind the other, as documents do. Beside their shard lies a shard of marks, one per token:

    prompt           completion   end-of-text        read by the model
    0 0 0 0 0 0      1 1 1        1                  whose prediction counts
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dist_llm.config import DataConfig
from dist_llm.data.documents import json_lines
from dist_llm.data.opening import told_to_the_user
from dist_llm.data.shards import TokenShards, shard_path, write_shard
from dist_llm.errors import UserError
from dist_llm.text import Tokenizer, is_file, load_tokenizer, save_tokenizer, train_tokenizer

COUNTED = "counted"  # the marks of `train` are in the shards of `counted-train`


class Pair(NamedTuple):
    """A prompt, which is given, and what is to follow it."""

    prompt: str
    completion: str


def read_pairs(path: Path) -> list[Pair]:
    """Return the pairs of a JSON Lines file, or of all ``.jsonl`` files of a folder, each pair once.

    Raises
    ------
    UserError
        Naming the file, and the line that is no pair.
    """
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    pairs: dict[Pair, None] = {}
    for file in files:
        with told_to_the_user(file, "correct --data.path"):
            for number, line in json_lines(file):
                pairs[_pair(line.decode(), f"{file}, line {number}")] = None
    if not pairs:
        raise UserError(f"{path} holds no pairs: name a JSON Lines file, or a folder of .jsonl files")
    return list(pairs)


def _pair(line: str, place: str) -> Pair:
    try:
        record = json.loads(line)
        pair = Pair(record["prompt"], record["completion"])
        if not isinstance(pair.prompt, str) or not isinstance(pair.completion, str):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        wanted = '{"prompt": "...", "completion": "..."}'
        raise UserError(f"{place}: not a pair; data.completions=true takes lines of {wanted}") from None
    if not pair.completion:
        raise UserError(f"{place}: the completion is empty, and nothing to learn from: leave the line out")
    return pair


def split_pairs(pairs: Sequence[Pair], val_fraction: float) -> tuple[list[Pair], list[Pair]]:
    """Hold out a fraction of the characters, or just more: all pairs of a prompt go to the same side.

    Prompts go to validation in the order of their SHA-256, as documents do.
    """
    wanted = sum(map(_size, pairs)) * Fraction(str(val_fraction))
    taken, held_out = 0, set()
    for digest, size in sorted(_sizes_of_prompts(pairs).items()):
        if taken >= wanted:
            break
        held_out.add(digest)
        taken += size
    val = [_digest(pair) in held_out for pair in pairs]
    return [p for p, out in zip(pairs, val, strict=True) if not out], [
        p for p, out in zip(pairs, val, strict=True) if out
    ]


def _sizes_of_prompts(pairs: Sequence[Pair]) -> dict[bytes, int]:
    sizes: dict[bytes, int] = {}
    for pair in pairs:
        digest = _digest(pair)
        sizes[digest] = sizes.get(digest, 0) + _size(pair)
    return sizes


def _size(pair: Pair) -> int:
    return len(pair.prompt) + len(pair.completion)


def _digest(pair: Pair) -> bytes:
    return hashlib.sha256(pair.prompt.strip().encode("utf-8", "surrogatepass")).digest()


def encode_pair(pair: Pair, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of a pair, the end-of-text token behind them, and which of these count, uint8 (n,).

    The prompt's tokens are those that it has alone, since so it is given when the model is used.
    """
    assert tokenizer.eot_id is not None, "nothing would end the pair"
    prompt, whole = tokenizer.encode(pair.prompt), tokenizer.encode(pair.prompt + pair.completion)
    if not np.array_equal(whole[: len(prompt)], prompt):  # a token would reach over the border
        whole = np.concatenate([prompt, tokenizer.encode(pair.completion)])
    tokens = np.append(whole, tokenizer.eot_id).astype(np.int32)
    return tokens, (np.arange(len(tokens)) >= len(prompt)).astype(np.uint8)


def write_pairs(folder: Path, meta: Mapping[str, Any], config: DataConfig) -> None:
    """Fill a folder with the shards of pairs, their tokenizer, and ``meta.json``, which begins with `meta`.

    Raises
    ------
    UserError
        There are no pairs, too few, or a tokenizer that does not fit.
    """
    start = time.perf_counter()
    assert config.path is not None, "the configuration was not validated"
    train, val = split_pairs(read_pairs(Path(config.path).expanduser()), config.val_fraction)
    if not train:
        raise UserError(f"{config.path} has pairs of one prompt only, and none is left to train on: add others")
    if is_file(config.tokenizer):
        tokenizer = load_tokenizer(config.tokenizer)
    else:
        tokenizer = train_tokenizer(
            config.tokenizer, [p + c for p, c in train], config.vocab_size, pattern=config.pattern
        )
    if tokenizer.eot_id is None:
        raise UserError(
            f"the {tokenizer.kind} tokenizer has no end-of-text token, with which a completion ends: "
            "say --data.tokenizer=byte or bpe"
        )
    save_tokenizer(tokenizer, folder)
    splits = {"train": train, "val": val}
    for split, pairs in splits.items():
        tokens, counted = map(np.concatenate, zip(*(encode_pair(pair, tokenizer) for pair in pairs), strict=True))
        n_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for pair in pairs for text in pair)
        write_shard(shard_path(folder, split, 0), tokens, n_bytes, tokenizer)
        write_shard(shard_path(folder, f"{COUNTED}-{split}", 0), counted, 0, tokenizer, marks=True)
    shards = {split: TokenShards(folder, split) for split in splits}
    document = dict(meta) | {
        "description": f"{config.path}, prompts and completions",
        "completions": True,
        "tokenizer": config.tokenizer,
        "vocab_size": tokenizer.vocab_size,
        "val_fraction": config.val_fraction,
        "pairs": {split: len(pairs) for split, pairs in splits.items()},
        "characters": {split: sum(map(_size, pairs)) for split, pairs in splits.items()},
        "bytes": {split: s.n_bytes for split, s in shards.items()},
        "tokens": {split: len(s) for split, s in shards.items()},
        "seconds": round(time.perf_counter() - start, 2),
    }
    (folder / "meta.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
