import pytest

from dist_llm import atomic
from dist_llm.atomic import remove_folder, whole_file, whole_folder, write_text


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


def test_what_a_killed_writer_left_behind_is_not_in_the_way(tmp_path):
    (tmp_path / ".f.tmp").mkdir()
    (tmp_path / ".f.tmp" / "half").write_text("x")
    with whole_folder(tmp_path / "f") as temporary:
        assert names(temporary) == []
    assert names(tmp_path) == ["f"]


def test_two_writers_do_not_meet(tmp_path):
    with whole_folder(tmp_path / "f", "one") as one, whole_folder(tmp_path / "g", "two") as two:
        assert one != two
        (one / "x").touch()
        (two / "y").touch()
    assert (names(tmp_path / "f"), names(tmp_path / "g")) == (["x"], ["y"])


def test_everything_reaches_the_disk_before_the_rename(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "fsync", lambda path: synced.append((path.name, (tmp_path / "f").exists())))
    with whole_folder(tmp_path / "f") as temporary:
        (temporary / "x").touch()
    assert synced == [("x", False), (".f.tmp", False), (tmp_path.name, True)]


def test_a_folder_is_removed_under_another_name(tmp_path, monkeypatch):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").touch()
    seen = []
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda path: seen.append((path.name, (tmp_path / "f").exists())))
    remove_folder(tmp_path / "f")
    assert seen == [(".f.tmp", False)]


@pytest.mark.parametrize("leftover", ["link", "dangling link", "file", "folder", "link to a folder"])
def test_nothing_is_written_through_what_lies_in_the_way(tmp_path, leftover):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "precious"
    target.write_text("precious")
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
