"""The documents of a file: what a separator divides in plain text, or a record each of JSON Lines.

Documents come as parts, so that one may be longer than the memory. Plain text is one document, exactly as it is, unless
lines that hold nothing but <|endoftext|> divide it. The line breaks beside such a line belong to it.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dist_llm.data.opening import BLOCK_BYTES, NOT_UTF8, OtherFormatError, packing, told_to_the_user, unpacked
from dist_llm.errors import UserError

SEPARATOR = "<|endoftext|>"  # alone on a line, as TinyStories and others write it
JSON_LINES = (".jsonl", ".ndjson", ".json")
LONGEST_RECORD = 64 << 20  # bytes; a record is read as a whole
LOOKED_AT = 2  # so many lines that are JSON objects make a file JSON Lines


class Part(NamedTuple):
    """A document, or if that is long the next part of it.

    Attributes
    ----------
    text : str
    last : bool
        Whether the document ends with it.
    divided : bool
        Whether the document is one of several in a plain text. The line breaks at its ends are then not its own.
    """

    text: str
    last: bool = True
    divided: bool = False


def read_documents(
    path: Path, field: str, read: Callable[[int], object] = lambda n: None, member: str = "", heading: str = ""
) -> Iterator[Part]:
    """Yield the documents of a file.

    Parameters
    ----------
    path : Path
        JSON Lines if it is called ``.jsonl``, ``.ndjson`` or ``.json``, else plain text; ``.gz`` or ``.zst`` may
        follow.
    field : str
        What holds the text of a record.
    read : callable
        Is told how many bytes of the file have been read since it was last told.
    member : str
        The file to read within a zip archive.
    heading : str
        Regular expression of the lines with which the documents of a plain text begin, instead of `SEPARATOR` lines
        between them.

    Raises
    ------
    OtherFormatError
        It is of another format than its name says, or not UTF-8.
    UserError
        It is JSON Lines by another name, or a record is not one.
    """
    try:
        if is_json_lines(path):
            yield from _records(path, field, read)
        else:
            texts = _decoded(path, unpacked(path, read, member))
            yield from _headed(texts, re.compile(heading, re.MULTILINE)) if heading else _texts(texts)
    except UnicodeDecodeError as error:
        raise OtherFormatError(*NOT_UTF8) from error


def is_json_lines(path: Path) -> bool:
    """Whether a file's name says that it is JSON Lines."""
    return (path.with_suffix("") if packing(path) else path).suffix.lower() in JSON_LINES


def _decoded(path: Path, blocks: Iterable[bytes]) -> Iterator[str]:
    # utf-8-sig drops the mark with which Windows begins a text.
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    for i, block in enumerate(blocks):
        text = decoder.decode(block)
        if i == 0:
            _refuse_json_lines(path, text, len(block) < BLOCK_BYTES)
        yield text
    yield decoder.decode(b"", final=True)


def _refuse_json_lines(path: Path, text: str, whole: bool) -> None:
    """Raise if a plain text looks like JSON Lines: the format would be trained on, instead of the text."""
    lines = [line for line in text[:BLOCK_BYTES].split("\n", 2 * LOOKED_AT) if line.strip()]
    looked_at = lines[:LOOKED_AT]
    if not looked_at or not looked_at[0].lstrip().startswith("{") or (len(lines) == 1 and not whole):
        return
    try:
        records = [json.loads(line) for line in looked_at]
    except (ValueError, RecursionError):
        return
    if all(isinstance(record, dict) for record in records):
        name = path.with_suffix("") if packing(path) else path
        right = name.with_suffix(".jsonl").name + (path.suffix if packing(path) else "")
        raise UserError(
            f"{path} holds a JSON object on each line, and its name says plain text: rename it to {right} "
            "to train on the text in its records, and say which field that is with --data.field"
        )


def _texts(blocks: Iterable[str]) -> Iterator[Part]:
    """Divide plain text at the lines that hold nothing but SEPARATOR."""
    held = ""  # the beginning of a line that may become a separator
    divided = False
    at_line_start = True
    for block in blocks:
        text = held + block
        held = ""
        end = 1 + max(text.rfind("\n"), text.rfind("\r"))
        if end or len(text) < BLOCK_BYTES:
            text, held = text[:end], text[end:]
        # Else a line of a megabyte: it is no separator.
        start = 0
        for left, right in _separators(text, at_line_start):
            divided = True
            yield Part(text[start:left], True, True)
            start = right
        if start < len(text):
            yield Part(text[start:] if start else text, last=False)
        at_line_start = at_line_start if not text else bool(end)
    if at_line_start and held.strip() == SEPARATOR:
        yield Part("", True, True)
    else:
        yield Part(held, True, divided)


def _headed(blocks: Iterable[str], heading: re.Pattern[str]) -> Iterator[Part]:
    """Divide plain text before the lines that match `heading`."""
    held = ""  # a line that has not ended yet
    for block in blocks:
        text = held + block
        end = 1 + text.rfind("\n")
        held = text[end:]
        start = 0
        for match in heading.finditer(text, 0, end):
            yield Part(text[start : match.start()])
            start = match.start()
        yield Part(text[start:end], last=False)
    yield Part(held)


def _separators(text: str, at_line_start: bool) -> Iterator[tuple[int, int]]:
    """Yield where the separator lines of a text begin and end, without the line breaks beside them."""
    at = text.find(SEPARATOR)
    while at >= 0:
        left, right = at, at + len(SEPARATOR)
        while left > 0 and text[left - 1] not in "\r\n" and text[left - 1].isspace():
            left -= 1
        while right < len(text) and text[right] not in "\r\n" and text[right].isspace():
            right += 1
        begins = text[left - 1] in "\r\n" if left else at_line_start
        if begins and (right == len(text) or text[right] in "\r\n"):
            yield left, right
        at = text.find(SEPARATOR, right)


def json_lines(path: Path, read: Callable[[int], object] = lambda n: None) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that are not blank, with their numbers; `read` as for `read_documents`."""
    for number, line in enumerate(_lines(path, unpacked(path, read)), 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line and not line.isspace():
            yield number, line


def _lines(path: Path, blocks: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    for block in blocks:
        first, *others = block.split(b"\n")
        held.append(first)
        if others:
            yield b"".join(held)
            yield from others[:-1]
            held = [others[-1]]
        elif sum(map(len, held)) > LONGEST_RECORD:
            raise UserError(f"a line of {path} is longer than {LONGEST_RECORD >> 20} MiB: divide its text into records")
    yield b"".join(held)


def _records(path: Path, field: str, read: Callable[[int], object]) -> Iterator[Part]:
    # Of all fields, only the one that is wanted becomes an object of Python.
    record = msgspec.defstruct("Record", [("text", str)], rename={"text": field})
    decode = msgspec.json.Decoder(record).decode
    for number, line in json_lines(path, read):
        try:
            text: str = decode(line).text  # type: ignore[attr-defined]
        except UnicodeDecodeError:
            raise
        except (msgspec.DecodeError, RecursionError):
            text = _read_record(path, number, line, field)
        if text:
            yield Part(text)


def _read_record(path: Path, number: int, line: bytes, field: str) -> str:
    """Read what msgspec does not, such as half of a surrogate pair, or say what is wrong with it."""
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        raise _not_json_lines(number) from error
    if not isinstance(record, dict):
        raise _not_json_lines(number)
    if isinstance(text := record.get(field), str):
        return text
    texts = [key for key, value in record.items() if isinstance(value, str)]
    raise UserError(
        f"line {number} of {path} has no text in the field {field!r}: name one that has with --data.field"
        + (f" (this line has text in {', '.join(map(repr, texts[:8]))})" if texts else "")
    )


def _not_json_lines(number: int) -> OtherFormatError:
    return OtherFormatError(
        "not JSON Lines", "write each record on a line of its own, e.g. jq -c '.[]'", f"line {number} is no JSON object"
    )


def read_texts(path: Path, field: str = "text") -> list[str]:
    """Return the documents of a file that is small enough to be held as a whole.

    Raises
    ------
    UserError
        It is not what its name says, is empty or cannot be read.
    """
    texts: list[str] = []
    parts: list[str] = []
    with told_to_the_user(path, "name a UTF-8 text file"):
        for part in read_documents(path, field):
            parts.append(part.text)
            if part.last:
                text = "".join(parts).strip("\r\n" if part.divided else "")
                texts += [text] if text.strip() else []
                parts = []
    if not texts:
        raise UserError(f"{path} holds no text: name one that does")
    return texts
