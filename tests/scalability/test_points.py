import pytest

from dist_llm.errors import UserError
from dist_llm.scalability.points import Point, choose_points, make_series, parse_points


def names(points) -> str:
    return " ".join(map(str, points))


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, "1x1"),
        (2, "1x1 2x1 1x2"),
        (6, "1x1 2x1 1x2 4x1 1x4 6x1 3x2 2x3 1x6"),
        (8, "1x1 2x1 1x2 4x1 1x4 8x1 4x2 2x4 1x8"),
    ],
)
def test_default_points(cores, expected):
    assert names(choose_points(None, cores, cores)) == expected


def test_each_number_of_cores_gets_its_process_of_threads_if_a_host_has_them():
    assert names(choose_points("4x2, 3x1,1x1", 16, 8)) == "1x1 3x1 1x3 4x2 1x8"
    assert names(choose_points("4x2, 3x1,1x1", 16, 4)) == "1x1 3x1 1x3 4x2"


def test_a_part_is_a_point_and_what_it_is_compared_with():
    study = "4x2,2x2,16x1,2x1"
    assert names(choose_points(study, 32, 8, "4x2")) == "2x1 1x2 4x2 1x8"
    assert names(choose_points(study, 32, 8, "16x1")) == "2x1 1x2 16x1"
    assert names(choose_points(study, 32, 8, "2x1")) == "2x1 1x2"
    with pytest.raises(UserError, match="--part 3x1 is none of the points 2x1, 2x2, 4x2, 16x1"):
        choose_points(study, 32, 8, "3x1")
    for text in ("2x1,4x2", "4"):
        with pytest.raises(UserError, match="--part takes RANKSxTHREADS such as 4x1, not "):
            choose_points(study, 32, 8, text)


@pytest.mark.parametrize("text", ["", "2", "2x", "0x1", "1x1,", "2x1;1x1", "-1x2", "1x1x1"])
def test_what_is_no_point(text):
    with pytest.raises(UserError, match="--points takes RANKSxTHREADS"):
        parse_points(text)


def test_batches_and_what_is_left_out():
    points = choose_points(None, 8, 8)
    strong, weak = make_series("strong", points, 4), make_series("weak", points, 4)
    assert names(strong.points) == "1x1 2x1 1x2 4x1 1x4 4x2 2x4 1x8"
    assert names(strong.left_out) == "8x1"
    assert {strong.batch_size(p) for p in strong.points} == {4}
    assert names(weak.points) == names(points)
    assert [weak.batch_size(Point(*p)) for p in ((1, 8), (2, 4), (8, 1))] == [4, 8, 32]
    with pytest.raises(UserError, match="more ranks than the 2 sequences"):
        make_series("strong", [Point(4, 1)], 2)
