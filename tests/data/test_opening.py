import builtins
import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from dist_llm.data import opening
from dist_llm.data.opening import OtherFormatError, unpacked
from dist_llm.errors import UserError

CONTENT = "".join(f"line {i} é\n" for i in range(100_000)).encode()


def zstd(content: bytes) -> bytes:
    return pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(content)


def write(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.txt", lambda content: content),
        ("a.txt.gz", gzip.compress),
        ("A.GZ", lambda content: gzip.compress(content[:1000]) + gzip.compress(content[1000:])),
        ("a.zst", zstd),
        ("a.zst", lambda content: zstd(content[:1000]) + zstd(content[1000:])),
    ],
)
def test_what_was_packed_comes_out(tmp_path, name, pack):
    path = write(tmp_path / name, pack(CONTENT))
    read = []
    blocks = list(unpacked(path, read.append))
    assert b"".join(blocks) == CONTENT
    assert all(blocks)
    assert max(map(len, blocks)) <= opening.BLOCK_BYTES
    assert sum(read) == path.stat().st_size


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.zst"])
def test_an_empty_file_is_empty(tmp_path, name):
    assert list(unpacked(write(tmp_path / name, b""))) == []


@pytest.mark.parametrize(
    ("name", "content", "what", "advice"),
    [
        ("a.txt", gzip.compress(b"text", mtime=0), "gzip by content", "rename it to a.txt.gz"),
        ("a.txt", b"\x28\xb5\x2f\xfd...", "zstd by content", "rename it to a.txt.zst"),
        ("a.zst", gzip.compress(b"text", mtime=0), "gzip by content", "rename it to a.zst.gz"),
        ("a.gz", b"plain text", "not gzip by content", "leave .gz out of its name"),
        ("a.zst", b"plain text", "not zstd by content", "leave .zst out of its name"),
        ("a.gz", b"PK\x03\x04", "a zip archive by content", "unpack it into a folder, and name that"),
        ("a.txt", b"BZh91AY", "bzip2 by content", "unpack it with bunzip2"),
        ("a.parquet", b"PAR1", "Parquet by content", "convert it to JSON Lines"),
        ("a.txt", "é".encode("utf-16"), "UTF-16 by content", "convert it first, e.g. iconv -f utf-16 -t utf-8"),
    ],
)
def test_another_format_than_the_name_says_is_told(tmp_path, name, content, what, advice):
    with pytest.raises(OtherFormatError) as error:
        list(unpacked(write(tmp_path / name, content)))
    assert error.value.what == what
    assert error.value.advice.startswith(advice)


def test_a_tar_archive_is_no_text(tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("book.txt"), io.BytesIO())
    for path in (
        write(tmp_path / "a.tar", archive.getvalue()),
        write(tmp_path / "a.gz", gzip.compress(archive.getvalue())),
    ):
        with pytest.raises(OtherFormatError, match="a tar archive"):
            list(unpacked(path))


@pytest.mark.parametrize(("name", "pack"), [("a.gz", gzip.compress), ("a.zst", zstd)])
def test_a_damaged_file_is_told(tmp_path, name, pack):
    packed = pack(CONTENT)
    middle = len(packed) // 2
    for content in (packed[:-1], packed[:middle], packed[:middle] + bytes(9) + packed[middle + 9 :]):
        with pytest.raises(UserError, match=rf"{tmp_path / name} is damaged \(.*\): get it again"):
            list(unpacked(write(tmp_path / name, content)))


def test_a_damaged_archive_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text", CONTENT)
    packed = (tmp_path / "a.zip").read_bytes()
    assert b"".join(unpacked(tmp_path / "a.zip", member="text")) == CONTENT
    middle = len(packed) // 2
    for content in (b"", packed[:-9], packed[:middle], packed[:middle] + bytes(9) + packed[middle + 9 :]):
        with pytest.raises(UserError, match=rf"{tmp_path}/b.zip is damaged \(.*\): get it again"):
            list(unpacked(write(tmp_path / "b.zip", content), member="text"))
    with pytest.raises(UserError, match=r"a.zip is damaged \(.*no item named 'other'.*\): get it again"):
        list(unpacked(tmp_path / "a.zip", member="other"))


def test_without_the_package_for_zstd_it_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def fail(name, *args):
        if name == "zstandard":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UserError, match=r"a.zst is packed by zstd: pip install zstandard \(or unpack it"):
        list(unpacked(write(tmp_path / "a.zst", b"\x28\xb5\x2f\xfd...")))


def test_what_has_no_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (Path("/dev/zero"), tmp_path / "fifo"):
        with pytest.raises(OSError, match="it is not a regular file"):
            next(unpacked(path))
