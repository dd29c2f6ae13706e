"""A setting: one field of a configuration, what it means, and which values it takes."""

import dataclasses
from dataclasses import field
from typing import Any, get_args

from dist_llm.errors import UserError

VALUE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
MAX_NUMBER = 1e300  # beyond it are infinity, and numbers no setting can mean
MAX_FLOAT32 = 3e38  # in which the settings are used
MAX_WHOLE = 2**63 - 1  # further no counter goes


def option(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    *,
    or_path: bool = False,
    positive: bool = False,
    below_1: bool = False,
    at_most_1: bool = False,
) -> Any:
    """Declare a field: its meaning, and the values it may take. Numbers are always finite and not negative."""
    limits = {"positive": positive, "below_1": below_1, "at_most_1": at_most_1}
    return field(default=default, metadata={"help": help, "choices": choices, "or_path": or_path, **limits})


def parse_value(name: str, text: str, f: dataclasses.Field[Any]) -> Any:
    """Turn the text of ``--section.key=text`` into a value of the field's type.

    Raises
    ------
    UserError
        The text is no such value.
    """
    kind, optional = value_type(f)
    if optional and text.lower() == "none":
        return None
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise UserError(f"{name} takes {_describe(f)}, not {text!r}") from None


def value_type(f: dataclasses.Field[Any]) -> tuple[type, bool]:
    """Return the type of a field's values, and whether it may be none."""
    types = get_args(f.type) or (f.type,)
    return types[0], type(None) in types


def checked_value(name: str, value: Any, f: dataclasses.Field[Any]) -> Any:
    """Return a value as the field's type.

    Raises
    ------
    UserError
        It is of another type, or out of the field's range.
    """
    kind, optional = value_type(f)
    if value is None and optional:
        return None
    # A whole number is a number too; but True, which Python takes for 1, is not.
    if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool) != (kind is bool):
        raise UserError(f"{name} takes {_describe(f)}, not {value!r}")
    if kind is str:
        _check_text(name, str(value), f)
    elif kind is not bool:
        _check_number(name, value, f)
    return kind(value)


def _check_text(name: str, value: str, f: dataclasses.Field[Any]) -> None:
    if not value and f.name != "sample_prompt":
        raise UserError(f"{name} is empty: give it a value or leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} is not valid UTF-8: {value!r}") from None
    if "\0" in value:
        raise UserError(f"{name} holds a zero character, which no name or text may: leave it out")
    choices = f.metadata["choices"]
    is_path = f.metadata["or_path"] and ("/" in value or value.endswith(".json"))
    if choices and value not in choices and not is_path:
        path = " or a path, such as ./tokenizer.json" if f.metadata["or_path"] else ""
        raise UserError(f"{name} is one of {', '.join(choices)}{path}, not {value!r}")


def _check_number(name: str, value: Any, f: dataclasses.Field[Any]) -> None:
    if not -MAX_NUMBER < value < MAX_NUMBER:
        raise UserError(f"{name} must be a finite number, not {value}")
    largest = MAX_WHOLE if value_type(f)[0] is int else MAX_FLOAT32
    if value > largest:
        raise UserError(f"{name} must be at most {largest}, not {value}")
    if value < 0 or (f.metadata["positive"] and value == 0):
        raise UserError(f"{name} must {'be above 0' if f.metadata['positive'] else 'not be negative'}, not {value}")
    if f.metadata["below_1"] and value >= 1:
        raise UserError(f"{name} must be below 1, not {value}")
    if f.metadata["at_most_1"] and value > 1:
        raise UserError(f"{name} must lie in (0, 1], not {value}")


def _describe(f: dataclasses.Field[Any]) -> str:
    kind, optional = value_type(f)
    return VALUE_NAMES[kind] + " or none" * optional
