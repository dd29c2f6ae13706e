import numpy as np
import pytest

from dist_llm.scalability.meetings import split_waiting

DELAYED = """
import sys, time
import numpy as np
from dist_llm.config import Config
from dist_llm.parallel.choice import choose_reduction
from dist_llm.parallel.comm import connect
from dist_llm.scalability.meetings import Meetings

comm = connect()
grad = np.zeros(100_000, np.float32)
config = Config().replace({"parallel": {"reduction": sys.argv[1]}})
reduction = choose_reduction(comm, grad.copy(), grad, config.parallel)
meetings = Meetings(comm, reduction)
comm.all_reduce_(np.zeros(1))
meetings.reset()
for step in range(3):
    reduction.begin()
    if comm.rank == comm.size - 1:
        time.sleep(0.1)
    reduction.reduce()
    comm.all_reduce_(np.zeros(4))
imbalance, communication = meetings.waiting()
reduction.close()
waited = comm.gather((imbalance, communication))
if comm.rank == 0:
    for seconds in waited:
        print(*seconds)
"""


def test_by_hand():
    # First meeting: rank 1 comes 2 s late, and all leave half a second later. Second: rank 0 is 1 s late.
    came = np.array([[10.0, 21.0], [12.0, 20.0], [11.5, 20.5]])
    left = np.array([[12.5, 21.25], [12.5, 21.25], [12.5, 21.25]])
    imbalance, communication = split_waiting(came, left)
    assert imbalance.tolist() == [2.0, 1.0, 1.0]
    assert communication.tolist() == [0.75, 0.75, 0.75]


def test_who_leaves_before_the_last_has_come_waited_for_nothing_but_imbalance():
    imbalance, communication = split_waiting(np.array([[0.0], [3.0]]), np.array([[1.0], [3.5]]))
    assert imbalance.tolist() == [1.0, 0.0]
    assert communication.tolist() == [0.0, 0.5]


@pytest.mark.mpirun
@pytest.mark.parametrize("reduction", ["blocking", "overlapped", "sharded"])
def test_a_late_rank_is_imbalance_of_the_others(run, tmp_path, reduction):
    (tmp_path / "delayed.py").write_text(DELAYED)
    result = run(3, "delayed.py", reduction)
    assert result.returncode == 0, result.stderr
    waited = [tuple(map(float, line.split())) for line in result.stdout.splitlines()]
    assert len(waited) == 3
    for imbalance, communication in waited[:2]:
        assert imbalance > 0.25  # 3 x 0.1 s, and whatever it is that ranks on the same cores do to each other
        assert communication < imbalance
    assert waited[2][0] < 0.15


def test_one_process_waits_for_nobody(run, tmp_path):
    (tmp_path / "delayed.py").write_text(DELAYED)
    result = run(0, "delayed.py", "blocking")
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[0]) == 0
