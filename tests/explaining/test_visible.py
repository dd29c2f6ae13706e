import pytest

from dist_llm.explaining.visible import SIGN, spoken, visible


@pytest.mark.parametrize(
    ("token", "shown", "said"),
    [
        (b" the", "␣the", "space the"),
        (b"\n\n\t", "⏎⏎⇥", "newline newline tab"),
        (b"  x ", "␣␣x␣", "space space xspace"),
        ("é日🎉".encode(), "é日🎉", "é日🎉"),
        (b" \xe2\x82", "␣\\xe2\\x82", "space \\xe2\\x82"),  # two thirds of a euro sign
        ("\u202e\u200b\xa0\r\x00".encode(), "\\u202e\\u200b\\xa0\\r\\x00", "\\u202e\\u200b\\xa0\\r\\x00"),
        ("\ud800".encode("utf-8", "surrogatepass"), "\\xed\\xa0\\x80", "\\xed\\xa0\\x80"),
        (b"", "", ""),
    ],
)
def test_nothing_in_a_token_is_invisible(token, shown, said):
    assert visible(token) == shown
    assert spoken(shown) == said
    shown.encode()


def test_signs_and_letters_alternate():
    assert SIGN.split("␣a⏎⇥b") == ["", "␣", "a", "⏎⇥", "b"]
