"""What a user sets: TOML files, and options of the command line that win over them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dist_llm.config import Config
from dist_llm.errors import UserError

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


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file into ``{section: {key: value}}``.

    Raises
    ------
    UserError
        The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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
