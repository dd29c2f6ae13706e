"""Sums over ranks of several hosts: inside each host first, then between the hosts, then back.

A host's ranks share memory, and one network. Where all of them take part in the exchange between hosts, the same
network carries several times what it must, and libraries' choices for such layouts are not always good ones. Integers
sum up to the same bits in any order; floating-point numbers to the same up to rounding, and alike on all ranks.
"""

from typing import Any

import numpy as np

LEAST_BYTES = 1 << 20  # of less, the time is that of messages, not of bytes, and one exchange is better than three


class TwoLevelSum:
    """An all-reduce over hosts.

    Parameters
    ----------
    mpi : module
        mpi4py's MPI.
    whole, local : communicator of mpi4py
        All ranks, and those of this rank's host.

    Attributes
    ----------
    pays : bool
        Whether there are several hosts, and several ranks on one of them.
    """

    def __init__(self, mpi: Any, whole: Any, local: Any) -> None:
        self._mpi, self._local = mpi, local
        self._leads = local.Get_rank() == 0
        self._leaders = whole.Split(0 if self._leads else mpi.UNDEFINED, whole.Get_rank())
        n_hosts = whole.allreduce(int(self._leads))
        self.pays = 1 < n_hosts < whole.Get_size()

    def allreduce_(self, array: np.ndarray) -> None:
        """Sum in place; collective."""
        in_place = self._mpi.IN_PLACE
        if self._leads:
            self._local.Reduce(in_place, array, op=self._mpi.SUM, root=0)
            self._leaders.Allreduce(in_place, array, op=self._mpi.SUM)
        else:
            self._local.Reduce(array, None, op=self._mpi.SUM, root=0)
        self._local.Bcast(array, root=0)
