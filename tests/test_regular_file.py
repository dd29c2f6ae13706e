import os

import pytest

from dist_llm.regular_file import is_plain_name, open_regular, read_bytes, read_json


def test_a_regular_file_is_read_through_links_too(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1]}')
    (tmp_path / "link.json").symlink_to("a.json")
    for name in ("a.json", "link.json"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b'{"a": [1]}'
        assert read_json(tmp_path / name) == {"a": [1]}


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo", tmp_path / "zero", tmp_path):
        with pytest.raises(OSError, match="it is not a regular file"):
            open_regular(path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")
    with pytest.raises(OSError, match="null byte"):
        open_regular(tmp_path / "a\0b")


def test_no_more_is_read_than_can_be_meant(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole takes no space on the disk
    with pytest.raises(OSError, match="it is larger than 1,000 bytes"):
        read_bytes(path, 1000)
    path.write_bytes(b"x" * 1000)
    assert len(read_bytes(path, 1000)) == 1000


def test_deep_nesting_is_an_error_like_others(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a", "a\0b", "a\nb", "\ud800", 3, None, ["a"]])
def test_names_that_lead_elsewhere(name):
    assert not is_plain_name(name)


def test_names_of_files():
    assert all(map(is_plain_name, ["model.safetensors", "model-00001-of-00002.safetensors", ".a", "a b", "é..x"]))
