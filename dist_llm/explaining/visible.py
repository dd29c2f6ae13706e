"""Tokens as they are shown: nothing in them is invisible, and what is no UTF-8 is bytes."""

import re

SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥"}
WORDS = {"␣": "space ", "⏎": "newline ", "⇥": "tab "}  # for those who listen
SIGN = re.compile("([␣⏎⇥]+)")


def visible(token: bytes) -> str:
    r"""Return a token with signs for white space; all else that is not seen, and bytes of no character, are escaped.

    >>> visible(b" a\n"), visible(b"\xe2\x82"), visible("\u202e".encode())
    ('␣a⏎', '\\xe2\\x82', '\\u202e')
    """
    text = token.decode("utf-8", "backslashreplace")
    return "".join(SIGNS.get(c, c if c.isprintable() else c.encode("unicode_escape").decode()) for c in text)


def spoken(shown: str) -> str:
    """Return a token that is shown as words: signs by their names."""
    return "".join(WORDS.get(c, c) for c in shown).strip()
