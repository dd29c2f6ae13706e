import os
import resource
import signal
import subprocess
import sys

import pytest

from dist_llm import atomic
from dist_llm.atomic import (
    HOST,
    AppendedFile,
    make_folder,
    remove_folder,
    remove_litter,
    whole_file,
    whole_folder,
    write_text,
)
from tests.conftest import environment


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_replaces_an_older_one_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with whole_file(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_a_failure_the_older_file_is_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_whole(tmp_path):
    with whole_folder(tmp_path / "deep" / "f") as temporary:
        (temporary / "x").write_text("x")
        assert not (tmp_path / "deep" / "f").exists()
    assert names(tmp_path / "deep") == ["f"]
    assert names(tmp_path / "deep" / "f") == ["x"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_half_a_folder_is_no_folder(tmp_path, error):
    def fail_half_way() -> None:
        with whole_folder(tmp_path / "f") as temporary:
            (temporary / "x").write_text("x")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert names(tmp_path) == []


def litter(folder, owner: str = f"{HOST}-{2**22 + 1}-0") -> list[str]:
    """Leave a file and a folder as a killed process does; no process has such a number."""
    (folder / f".a.txt@{owner}.tmp").write_text("half")
    (folder / f".f@{owner}.tmp").mkdir()
    (folder / f".f@{owner}.tmp" / "half").write_text("x")
    return names(folder)


def test_what_a_killed_writer_left_behind_is_not_in_the_way_and_is_removed(tmp_path):
    litter(tmp_path)
    with whole_folder(tmp_path / "f") as temporary:
        assert names(temporary) == []
    write_text(tmp_path / "a.txt", "whole")
    remove_litter(tmp_path)
    assert names(tmp_path) == ["a.txt", "f"]


OWNERS = {"itself": f"{HOST}-{os.getpid()}-0", "another": f"{HOST}-1-0", "elsewhere": f"x{HOST}-{2**22 + 1}-0"}


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_what_may_have_an_owner_stays_unless_the_folder_is_held(tmp_path, owner):
    there = litter(tmp_path, owner)
    remove_litter(tmp_path)
    assert names(tmp_path) == there
    remove_litter(tmp_path, held=True)
    assert names(tmp_path) == []


def test_nothing_else_is_litter(tmp_path):
    (tmp_path / "mine.tmp").touch()
    (tmp_path / ".mine").touch()
    (tmp_path / "kept").touch()
    (tmp_path / ".link.tmp").symlink_to(tmp_path / "kept")
    remove_litter(tmp_path)
    remove_litter(tmp_path, held=True)
    assert names(tmp_path) == [".mine", "kept", "mine.tmp"]


def test_a_killed_process_leaves_what_is_recognised(tmp_path):
    program = """
import os, sys
from pathlib import Path
from dist_llm.atomic import whole_file, whole_folder
with whole_folder(Path(sys.argv[1]) / "f") as folder, whole_file(Path(sys.argv[1]) / "a.txt") as file:
    file.touch()
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program, tmp_path], env=environment()).returncode == -9
    assert len(names(tmp_path)) == 2
    remove_litter(tmp_path)
    assert names(tmp_path) == []


def test_two_writers_do_not_meet(tmp_path):
    with whole_folder(tmp_path / "f") as one, whole_folder(tmp_path / "f") as two:
        assert one != two
    assert names(tmp_path) == ["f"]


def test_everything_reaches_the_disk_before_the_rename(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "fsync", lambda path: synced.append((path.name, (tmp_path / "f").exists())))
    with whole_folder(tmp_path / "f") as temporary:
        (temporary / "x").touch()
    assert synced == [("x", False), (temporary.name, False), (tmp_path.name, True)]


def test_each_folder_that_is_made_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "fsync", synced.append)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


def test_a_folder_is_removed_under_another_name(tmp_path, monkeypatch):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").touch()
    seen = []
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda path: seen.append((path.name, (tmp_path / "f").exists())))
    remove_folder(tmp_path / "f")
    ((name, there),) = seen
    assert name.startswith(".f@")
    assert not there


@pytest.mark.parametrize("leftover", ["link", "dangling link", "file", "folder", "link to a folder"])
def test_nothing_is_written_through_what_lies_in_the_way(tmp_path, monkeypatch, leftover):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "precious"
    target.write_text("precious")
    monkeypatch.setattr(atomic, "_temporary", lambda path: path.with_name(f".{path.name}.tmp"))  # names known before
    for name in (".a.txt.tmp", ".f.tmp"):
        if leftover == "file":
            (tmp_path / name).write_text("half")
        elif leftover == "folder":
            (tmp_path / name / "deep").mkdir(parents=True)
        else:
            to = {"link": target, "dangling link": tmp_path / "nowhere", "link to a folder": tmp_path / "elsewhere"}
            (tmp_path / name).symlink_to(to[leftover])
    write_text(tmp_path / "a.txt", "new")
    with whole_folder(tmp_path / "f") as temporary:
        (temporary / "x").write_text("x")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt", "elsewhere", "f"]
    assert names(tmp_path / "elsewhere") == ["precious"]
    assert target.read_text() == "precious"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "a.txt").symlink_to("target")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "a.txt").is_symlink()


def test_of_a_piece_that_cannot_be_written_nothing_is_left_and_it_comes_first(tmp_path):
    """The limit of a file's size is a disk that is full in the middle of a piece."""
    path = tmp_path / "log"
    path.write_bytes(b"one;half")
    file = AppendedFile(path, 4)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    file.append(b"two;")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        for piece in (b"three;", b"four;"):
            with pytest.raises(OSError, match="too large"):
                file.append(piece)
            assert path.read_bytes() == b"one;two;"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.append(b"five;")
    file.close()
    assert path.read_bytes() == b"one;two;three;four;five;"
