"""The table that the watchdogs of a host share."""

import os

import pytest

from dist_llm.parallel import watchdog
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.watchdog import ROW


@pytest.mark.mpi
def test_ranks_of_a_host_share_a_table_that_has_no_name(world):
    table = watchdog._shared_table(world, list(range(world.size)))
    table["pid"][world.rank] = os.getpid()
    world.allgather(None)
    assert table["pid"].tolist() == world.allgather(os.getpid())


def test_a_rank_of_another_container_is_by_itself_and_writes_to_no_file_of_others(tmp_path):
    """There, the path that it is told leads to whatever has that number."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious" * 100)
    with precious.open("r+b") as file:

        class Elsewhere(SerialComm):
            rank = 1

            def allgather(self, value):
                return [(f"/proc/{os.getpid()}/fd/{file.fileno()}", "dist_llm-0123"), value]

        table = watchdog._shared_table(Elsewhere(), [0, 1])
        table[1] = (os.getpid(), 1, 1, 1)
    assert precious.read_bytes() == b"precious" * 100
    assert table.dtype == ROW
    assert table["pid"][0] == 0  # so it is not watched
