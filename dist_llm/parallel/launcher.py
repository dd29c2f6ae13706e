"""What a launcher says to the processes it starts, readable without MPI."""

import os

# What a launcher tells the processes it starts: how many they are, and which one each is. (Open MPI, MPICH and Intel
# MPI, MVAPICH, Slurm's srun, Flux; PMIx and PALS tell the rank only.)
LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "FLUX_JOB_SIZE")
LAUNCHER_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK", "PALS_RANKID", "SLURM_PROCID")


def launcher_rank() -> int:
    """Return the rank the launcher gave this process, without MPI; 0 if there was no launcher."""
    return from_launcher(LAUNCHER_RANKS) or 0


def from_launcher(names: tuple[str, ...]) -> int | None:
    """Return the number under the first of these names that is set; None if none is."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), None)
