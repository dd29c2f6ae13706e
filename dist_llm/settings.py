"""What a user sets: TOML files, and options of the command line that win over them."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dist_llm.config import SECTIONS, Config
from dist_llm.errors import UserError
from dist_llm.regular_file import CONFIG_BYTES, read_bytes

SHIPPED = resources.files("dist_llm") / "configs"


@dataclass(frozen=True)
class Settings:
    """Changes to a configuration.

    Attributes
    ----------
    files : tuple of str
        TOML files, or the names of configurations that come with dist_llm; later ones win.
    overrides : mapping
        ``overrides[section][key]`` wins over all files.
    """

    files: tuple[str, ...] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def apply_to(self, config: Config) -> Config:
        """Return the changed configuration, validated.

        Raises
        ------
        UserError
            As `changed` and `Config.validated`.
        """
        return self.changed(config).validated()

    def changed(self, config: Config) -> Config:
        """Return the changed configuration; whether its values fit each other is not known yet.

        Raises
        ------
        UserError
            As `Config.replace`; of what a file says, with its name.
        """
        for file in self.files:
            try:
                config = config.replace(read_toml(_find(file)))
            except UserError as error:
                raise UserError(f"{file}: {error}" if file not in str(error) else str(error)) from None
        return config.replace(self.overrides)


def to_toml(config: Config) -> str:
    """Return a configuration as TOML, every field with its meaning; absent means none."""
    lines = []
    for section, fields in SECTIONS.items():
        lines.append(f"[{section}]")
        for key, f in fields.items():
            value = getattr(getattr(config, section), key)
            # JSON's strings, finite numbers and booleans are TOML's, but for DEL, which TOML wants escaped.
            literal = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            text = f"# {key} =" if value is None else f"{key} = {literal}"
            lines.append(f"{text:<32}  # {f.metadata['help']}")
        lines.append("")
    return "\n".join(lines)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file into ``{section: {key: value}}``.

    Raises
    ------
    UserError
        The file is missing or is not TOML.
    """
    return parse_toml(path, read_configuration(path))


def read_configuration(path: Path) -> bytes:
    """Return the content of a configuration.

    Raises
    ------
    UserError
        The file is missing, or none that can be read.
    """
    try:
        return read_bytes(path, CONFIG_BYTES)
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error


def parse_toml(path: Path, content: bytes) -> dict[str, Any]:
    """Return the content of a TOML file as ``{section: {key: value}}``.

    Raises
    ------
    UserError
        It is not TOML.
    """
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of whole numbers with thousands of digits
        raise UserError(f"{path} is not valid TOML: {error}") from error


def shipped_configs() -> list[str]:
    """Return the names of the configurations that come with dist_llm."""
    return sorted(file.name.removesuffix(".toml") for file in SHIPPED.iterdir() if file.name.endswith(".toml"))


def _find(file: str) -> Path:
    """Return a file's path: a user's own, or else one that comes with dist_llm and is called so."""
    path = Path(file).expanduser()
    if not path.exists() and file in shipped_configs():
        return Path(str(SHIPPED / f"{file}.toml"))
    return path
