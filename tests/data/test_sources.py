import pytest

from dist_llm.data.sources import find_sources, full_path
from dist_llm.errors import UserError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "a.txt",
        "b.jsonl",
        "odd,name:2.txt",
        "books/2.txt",
        "books/1.txt",
        "books/deep/3.txt",
        "c:3",
        "[x].txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def found(path):
    return [(str(source.path), source.weight) for source in find_sources(path)]


def test_one_name(here):
    assert found("a.txt") == [("a.txt", 1.0)]
    assert found(str(here)) == [(str(here), 1.0)]


def test_several_with_weights(here):
    assert found("a.txt:3,b.jsonl") == [("a.txt", 3.0), ("b.jsonl", 1.0)]
    assert found("books:0.25,a.txt:1") == [("books", 0.25), ("a.txt", 1.0)]


def test_a_name_that_exists_wins_over_what_its_commas_and_colons_might_mean(here):
    assert found("odd,name:2.txt") == [("odd,name:2.txt", 1.0)]
    assert found("a.txt,odd,name:2.txt:3,b.jsonl") == [("a.txt", 1.0), ("odd,name:2.txt", 3.0), ("b.jsonl", 1.0)]
    assert found("c:3") == [("c:3", 1.0)]
    assert found("c:3:2") == [("c:3", 2.0)]
    assert found("[x].txt") == [("[x].txt", 1.0)]


def test_patterns(here):
    assert found("books/*.txt:2,*.jsonl") == [("books/*.txt", 2.0), ("*.jsonl", 1.0)]
    (source,) = find_sources("books/*")
    assert [str(file) for file in source.files()] == ["books/1.txt", "books/2.txt", "books/deep/3.txt"]
    (source,) = find_sources("books/**/*.txt")
    assert [str(file) for file in source.files()] == ["books/1.txt", "books/2.txt", "books/deep/3.txt"]
    assert source.name == "books"
    assert not source.is_file


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no", r"there is no file or folder no: correct --data.path"),
        ("a.txt,no.txt:3", r"there is no file or folder no.txt:3: correct --data.path"),
        ("a.txt,", r"there is no file or folder \.: correct"),
        ("*.md", r"no file matches \*.md: correct --data.path"),
        ("a.txt:0,b.jsonl", r"the weight of a.txt in --data.path is 0"),
    ],
)
def test_what_is_not_there_is_told(here, path, message):
    with pytest.raises(UserError, match=message):
        find_sources(path)


def test_a_full_path_means_the_same_from_anywhere(here, monkeypatch):
    paths = ["a.txt:3,odd,name:2.txt", "books/*.txt:0.5", "a.txt"]
    full = [full_path(path) for path in paths]
    assert full[0] == f"{here}/a.txt:3,{here}/odd,name:2.txt"
    expected = [[(source.path.resolve(), source.weight) for source in find_sources(path)] for path in paths]
    monkeypatch.chdir("/")
    assert [[(source.path, source.weight) for source in find_sources(path)] for path in full] == expected
    assert [full_path(path) for path in full] == full
    assert full_path("/gone/a.txt:3,/gone/b.txt") == "/gone/a.txt:3,/gone/b.txt"
