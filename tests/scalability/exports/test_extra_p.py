import json
from collections import defaultdict

from dist_llm.scalability.exports.extra_p import PointTimes, extra_p


def test_lines_are_read_by_the_rules_of_the_format():
    def seconds(ranks: int) -> dict[str, list[float]]:
        return {"step": [1.0 / ranks + 0.1, 1.0 / ranks + 0.3], "step->compute": [1.0 / ranks] * 2}

    text = extra_p(PointTimes(ranks, threads, seconds(ranks)) for ranks, threads in [(1, 1), (2, 1), (1, 2)])
    assert text.endswith("\n")
    measurements = defaultdict(dict)
    for line in text.splitlines():
        found = json.loads(line)
        assert list(found["params"]) == ["ranks", "threads"]
        assert tuple(found["params"].values()) not in measurements[found["callpath"], found["metric"]]
        measurements[found["callpath"], found["metric"]][tuple(found["params"].values())] = found["value"]
    assert measurements["step->compute", "time"] == {(1, 1): [1.0, 1.0], (2, 1): [0.5, 0.5], (1, 2): [1.0, 1.0]}
    # Extra-P refuses a part that was not measured at every point.
    assert measurements["step", "time"].keys() == measurements["step->compute", "time"].keys()
    assert measurements["step", "time"][2, 1] == [0.6, 0.8]
