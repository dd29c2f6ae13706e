"""What is left beside a folder that comes to be by and by: kept while somebody may go on with it, then removed."""

import os
import time

import pytest

from dist_llm.data.partial_folder import KEPT_S, continued_folder, partial_path


@pytest.fixture
def left(tmp_path):
    """What an interrupted preparation has left."""

    def interrupt() -> None:
        with continued_folder(tmp_path / "left") as partial:
            (partial / "done").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    return tmp_path / "left"


def make(folder) -> None:
    with continued_folder(folder) as partial:
        (partial / "x").touch()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_waits_to_be_continued(left, tmp_path):
    make(tmp_path / "other")
    assert names(tmp_path) == [".left.partial", "other"]
    make(left)
    assert names(left) == ["done", "x"]


def test_it_is_removed_once_the_whole_is_there(left, tmp_path):
    left.mkdir()
    make(tmp_path / "other")
    assert names(tmp_path) == ["left", "other"]


def test_it_is_removed_when_it_has_waited_for_long(left, tmp_path):
    long_ago = time.time() - KEPT_S - 1
    os.utime(partial_path(left), (long_ago, long_ago))
    make(tmp_path / "other")
    assert names(tmp_path) == ["other"]


def test_what_is_being_written_or_is_not_ours_stays(left, tmp_path):
    (tmp_path / ".mine.partial").mkdir()
    with continued_folder(left) as partial:
        long_ago = time.time() - KEPT_S - 1
        for folder in (partial, tmp_path / ".mine.partial"):
            os.utime(folder, (long_ago, long_ago))
        make(tmp_path / "other")
        assert names(tmp_path) == [".left.partial", ".mine.partial", "other"]


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    """Not even to find out that nobody wants a folder any more."""
    ownerless, elsewhere = tmp_path / ".old.partial", tmp_path / "elsewhere"
    (tmp_path / "old").mkdir()
    ownerless.mkdir()
    (ownerless / "meta.json").touch()
    (ownerless / ".lock").symlink_to(elsewhere)
    with continued_folder(tmp_path / "new"):
        assert not elsewhere.exists()
    assert not elsewhere.exists()
