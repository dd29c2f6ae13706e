"""The command line that all commands share: help from the configuration's fields, errors as one line."""

import argparse
import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from dist_llm.config import RENAMED, SECTIONS
from dist_llm.errors import UserError
from dist_llm.option import parse_value, value_type
from dist_llm.parallel.comm import Comm
from dist_llm.settings import Settings, shipped_configs


class _HelpPrintedError(Exception):
    """--help was asked for and printed."""


class CommandLine(argparse.ArgumentParser):
    """An argument parser that runs on rank 0 and raises `UserError` instead of ending the process.

    Parameters
    ----------
    command : str
        Name of the command, as in ``python -m dist_llm.<command>``.
    docstring : str or None
        Docstring of the command's module, with which the help begins: what it does, and examples.
    sections : sequence of str
        The configuration sections whose fields are options here, as ``--section.key VALUE``.
    """

    def __init__(self, command: str, docstring: str | None, sections: Sequence[str] = ()) -> None:
        super().__init__(
            prog=f"python -m dist_llm.{command}", usage="%(prog)s [options]" if sections else None, allow_abbrev=False
        )
        self._introduction = (docstring or "").strip()
        if sections:
            names = ", ".join(shipped_configs())
            meaning = f"TOML file, or one of {names}; later ones win"
            self.add_argument("--config", action="append", default=[], metavar="FILE", help=meaning)
        for section in sections:
            group = self.add_argument_group(f"[{section}]")
            for key, f in SECTIONS[section].items():
                default = "none" if f.default is None else str(f.default).lower() if f.type is bool else f.default
                meaning = f"{f.metadata['help']} (default: {default!s})".replace("%", "%%")
                metavar = (
                    "|".join((*f.metadata["choices"], *["FILE"] * f.metadata["or_path"]))
                    or value_type(f)[0].__name__.upper()
                )
                name = f"--{section}.{key}"
                group.add_argument(name, dest=name, default=argparse.SUPPRESS, metavar=metavar, help=meaning)

    def format_help(self) -> str:
        """Return the help, which begins with examples."""
        return f"{self._introduction}\n\n{super().format_help()}"

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError`."""
        raise UserError(f"{message} (--help lists the options)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave the parser after --help."""
        raise _HelpPrintedError

    def parse_on_rank_0(self, argv: list[str], comm: Comm) -> argparse.Namespace | None:
        """Parse on rank 0, and return the result on every rank; None if it was a request for help.

        Raises
        ------
        UserError
            On every rank.
        """

        def parse() -> argparse.Namespace | None:
            try:
                known, unknown = self.parse_known_args(argv)
            except _HelpPrintedError:
                return None
            if unknown:
                name = unknown[0].split("=")[0]
                options = [name for action in self._actions for name in action.option_strings]
                now = RENAMED.get(name.removeprefix("--"))
                close = [f"--{now}"] if now else difflib.get_close_matches(name, options, n=1)
                hint = f"did you mean {close[0]}?" if close else "--help lists the options"
                raise UserError(f"unknown option {unknown[0]}; {hint}")
            return known

        return comm.on_rank_0(parse)


def settings(arguments: argparse.Namespace) -> Settings:
    """Return what a command line says of the configuration.

    Raises
    ------
    UserError
        A value is not of its field's type.
    """
    overrides: dict[str, dict[str, Any]] = {}
    for name, text in vars(arguments).items():
        if name.startswith("--"):
            section, key = name[2:].split(".")
            overrides.setdefault(section, {})[key] = parse_value(name, text, SECTIONS[section][key])
    return Settings(tuple(arguments.config), overrides)


def whole_number(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least` on: a type for `add_argument`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"takes a whole number from {least} on, not {text!r}")
        return int(text)

    return parse


def whole_numbers(text: str) -> list[int]:
    """Return the whole numbers from 1 on in ``8,16,32``: a type for `add_argument`."""
    words = text.split(",")
    if not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"takes whole numbers from 1 on such as 8,16,32, not {text!r}")
    return [int(word) for word in words]


def amount(unit: str) -> Callable[[str], float]:
    """Return a type for `add_argument`: a finite number of `unit` from 0 on."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise argparse.ArgumentTypeError(f"takes a number of {unit} from 0 on, not {text!r}")
        return value

    return parse
