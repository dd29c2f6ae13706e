"""The configuration: typed dataclasses, filled from TOML files and dotted command-line overrides.

Later sources win: the defaults below, then each ``--config FILE`` in order, then ``--section.key=value``.
An unknown key or a value of the wrong type is an error that names the key, never a silent default.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dist_llm.errors import UserError


def _option(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the Transformer. The defaults with a vocabulary of 512 have 2,312,256 parameters."""

    dim: int = _option(192, "width of the residual stream")
    n_layers: int = _option(5, "number of Transformer blocks")
    n_heads: int = _option(6, "query heads; dim / n_heads is the size of a head and must be even")
    n_kv_heads: int | None = _option(None, "key and value heads, a divisor of n_heads (grouped-query); none: n_heads")
    ffn_dim: int = _option(512, "hidden width of the SwiGLU feed-forward")
    max_seq_len: int = _option(256, "tokens in a training sequence, and the longest context")
    vocab_size: int | None = _option(
        None, "rows of the embedding, at least the tokenizer's vocabulary; none: exactly that"
    )
    tie_embeddings: bool = _option(True, "use the token embedding as the output projection too")
    dropout: float = _option(0.0, "probability of dropping an element of the embedding and of each block's outputs")
    norm_eps: float = _option(1e-5, "added to the mean square in RMSNorm")
    rope_theta: float = _option(10000.0, "base of the rotary embedding's wavelengths")
    init_std: float = _option(0.06, "standard deviation of the initial weights")


@dataclass(frozen=True)
class DataConfig:
    """Which text, cut into which tokens."""

    corpus: str = _option(
        "python-docs",
        "a named corpus; python-docs needs no download",
        ("python-docs", "tinyshakespeare", "tinystories", "tinystories-small"),
    )
    path: str | None = _option(
        None, "your own text instead: a UTF-8 file, or a folder of them (each file one document)"
    )
    tokenizer: str = _option("bpe", "bytes, characters, or a byte-level BPE trained here", ("byte", "char", "bpe"))
    vocab_size: int = _option(512, "size the BPE vocabulary is trained to")
    val_fraction: float = _option(0.1, "share of the text that is held out for validation")
    shards: str | None = _option(None, "folder of prepared token shards; none: one inside cache_dir, made when missing")
    cache_dir: str = _option("~/.cache/dist_llm", "where downloads and prepared shards are kept")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning-rate schedule."""

    lr: float = _option(3e-3, "peak learning rate")
    min_lr: float = _option(1e-4, "learning rate at the end of the decay")
    schedule: str = _option("cosine", "what follows the linear warm-up", ("cosine", "wsd", "constant"))
    warmup_steps: int = _option(30, "steps of linear warm-up from 0")
    decay_fraction: float = _option(0.2, "wsd: the share of max_steps, at the end, over which lr falls to min_lr")
    beta1: float = _option(0.9, "AdamW: decay of the first moment")
    beta2: float = _option(0.95, "AdamW: decay of the second moment")
    eps: float = _option(1e-8, "AdamW: added to the root of the second moment")
    weight_decay: float = _option(0.1, "AdamW: decoupled decay, on matrices only")
    grad_clip: float = _option(1.0, "largest global gradient norm; 0: no clipping")


@dataclass(frozen=True)
class ParallelConfig:
    """Ranks and threads."""

    threads: int | None = _option(None, "BLAS threads per rank; none: usable cores / ranks on the host, at least 1")
    check_interval: int = _option(100, "compare the replicas' checksums every so many steps; 0: never")


@dataclass(frozen=True)
class TrainConfig:
    """The training run."""

    run_dir: str | None = _option(None, "where the run is written; none: the next free runs/run-001, run-002, ...")
    seed: int = _option(1, "of everything random: weights, data order, dropout, samples")
    max_steps: int = _option(300, "optimizer steps in the whole run")
    batch_size: int = _option(16, "sequences per step, over all ranks together")
    micro_batch_size: int = _option(2, "sequences a rank works on at once; more only costs memory")
    eval_interval: int = _option(50, "steps between evaluations on the whole validation split; 0: only at the end")
    checkpoint_interval: int = _option(100, "steps between checkpoints; 0: only at the end")
    keep_checkpoints: int = _option(2, "the last so many checkpoints are kept, and the best one")


@dataclass(frozen=True)
class LogConfig:
    """What is shown and written along the way."""

    interval: int = _option(1, "steps between lines of metrics.jsonl")
    sample_prompt: str | None = _option(
        None, "what the samples continue; none: the first words held out for validation"
    )
    sample_tokens: int = _option(100, "length of the sample written at each evaluation; 0: none")


@dataclass(frozen=True)
class Config:
    """All sections; `config.toml` of a run is exactly this."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def replace(self, values: Mapping[str, Mapping[str, Any]]) -> "Config":
        """Return a copy with ``values[section][key]`` set, each checked against its field.

        Raises
        ------
        UserError
            An unknown section or key, or a value of the wrong type.
        """
        sections = {}
        for section, entries in values.items():
            if section not in SECTIONS:
                raise UserError(f"unknown section [{section}]{_did_you_mean(section, SECTIONS)}")
            if not isinstance(entries, Mapping):
                raise UserError(f"{section} is a section: write its keys below [{section}]")
            fields = SECTIONS[section]
            for key, value in entries.items():
                if key not in fields:
                    raise UserError(f"unknown key {section}.{key}{_did_you_mean(key, fields)}")
                _check(f"{section}.{key}", value, fields[key])
            typed = {k: float(v) if "float" in str(fields[k].type) and v is not None else v for k, v in entries.items()}
            sections[section] = dataclasses.replace(getattr(self, section), **typed)
        return dataclasses.replace(self, **sections)

    def validated(self) -> "Config":
        """Return self after checking that the values fit each other.

        Raises
        ------
        UserError
            Naming the keys and what would be right.
        """
        model, train, optim = self.model, self.train, self.optim
        positive = {
            "model": (
                "dim",
                "n_layers",
                "n_heads",
                "n_kv_heads",
                "ffn_dim",
                "max_seq_len",
                "vocab_size",
                "rope_theta",
            ),
            "data": ("vocab_size",),
            "optim": ("lr", "eps"),
            "parallel": ("threads",),
            "train": ("max_steps", "batch_size", "micro_batch_size", "keep_checkpoints"),
            "log": ("interval",),
        }
        for section, fields in SECTIONS.items():
            for key in fields:
                value = getattr(getattr(self, section), key)
                if not isinstance(value, int | float) or isinstance(value, bool):
                    continue
                if key in positive.get(section, ()) and not value > 0:
                    raise UserError(f"{section}.{key} must be above 0, not {value}")
                if not value >= 0:
                    raise UserError(f"{section}.{key} must not be negative, not {value}")
        for section, key in (
            ("model", "dropout"),
            ("data", "val_fraction"),
            ("optim", "beta1"),
            ("optim", "beta2"),
        ):
            value = getattr(getattr(self, section), key)
            if not value < 1:
                raise UserError(f"{section}.{key} must be below 1, not {value}")
        if self.data.val_fraction == 0:
            raise UserError("data.val_fraction must be above 0: the validation loss needs text to be measured on")
        if model.dim % model.n_heads or model.dim // model.n_heads % 2:
            raise UserError(
                f"model.dim={model.dim} must be n_heads={model.n_heads} times an even head size "
                f"(e.g. {model.n_heads * max(2, round(model.dim / model.n_heads / 2) * 2)})"
            )
        if model.n_kv_heads and model.n_heads % model.n_kv_heads:
            raise UserError(f"model.n_kv_heads={model.n_kv_heads} must divide n_heads={model.n_heads}")
        if optim.min_lr > optim.lr:
            raise UserError(f"optim.min_lr={optim.min_lr} is above optim.lr={optim.lr}")
        if not 0 < optim.decay_fraction <= 1:
            raise UserError(f"optim.decay_fraction must lie in (0, 1], not {optim.decay_fraction}")
        if train.run_dir == "":
            raise UserError("train.run_dir is empty: name a folder")
        return self

    def to_toml(self) -> str:
        """Return the configuration as TOML, every field with its meaning; absent means none."""
        lines = []
        for section, fields in SECTIONS.items():
            lines.append(f"[{section}]")
            for key, f in fields.items():
                value = getattr(getattr(self, section), key)
                # A JSON string is a TOML string, and so are its numbers and booleans.
                text = f"# {key} =" if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}"
                lines.append(f"{text:<32}  # {f.metadata['help']}")
            lines.append("")
        return "\n".join(lines)


SECTIONS: dict[str, dict[str, dataclasses.Field]] = {
    section.name: {f.name: f for f in dataclasses.fields(section.default_factory)}  # type: ignore[arg-type]
    for section in dataclasses.fields(Config)
}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file into ``{section: {key: value}}``.

    Raises
    ------
    UserError
        The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error


def parse_value(name: str, text: str, f: dataclasses.Field) -> Any:
    """Turn the text of ``--section.key=text`` into a value of the field's type.

    Raises
    ------
    UserError
        The text is no such value.
    """
    kind = str(f.type)
    if "None" in kind and text.lower() == "none":
        return None
    if "str" in kind:
        return text
    try:
        value = {"true": True, "false": False}[text.lower()] if "bool" in kind else None
        return int(text) if "int" in kind else float(text) if "float" in kind else value
    except (ValueError, KeyError):
        raise UserError(f"{name} takes {_describe(f)}, not {text!r}") from None


def _check(name: str, value: Any, f: dataclasses.Field) -> None:
    kind = str(f.type)
    allowed: tuple[type, ...] = tuple(
        t for t in (bool, int, float, str) if t.__name__ in kind or (t is int and "float" in kind)
    )
    fits = value is None if "None" in kind else False
    fits = fits or (isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool)))
    if not fits:
        raise UserError(f"{name} takes {_describe(f)}, not {value!r}")
    choices = f.metadata["choices"]
    if choices and value not in choices:
        raise UserError(f"{name} is one of {', '.join(choices)}, not {value!r}{_did_you_mean(value, choices)}")


def _describe(f: dataclasses.Field) -> str:
    names = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
    kind = str(f.type)
    found = next(text for name, text in names.items() if name in kind)
    return f"{found} or none" if "None" in kind else found


def _did_you_mean(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
