"""The command that starts ranks, in the words of each MPI library's launcher."""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dist_llm.errors import UserError
from dist_llm.launching.hosts import Host

OPEN_MPI, MPICH, OTHER = "Open MPI", "MPICH", "another launcher"
SAYS = {"Open MPI": OPEN_MPI, "Open RTE": OPEN_MPI, "PRRTE": OPEN_MPI, "HYDRA": MPICH}
VERSION_S = 20.0


@dataclass(frozen=True)
class MPICommand:
    """How ranks are started.

    Attributes
    ----------
    launcher : sequence of str
        ``mpirun`` or ``srun``, with its first arguments.
    remote_shell : str
        What reaches other hosts: ``ssh``, with its first arguments.
    recover : bool
        Whether the ranks that are left go on when one dies.
    """

    launcher: Sequence[str]
    remote_shell: str
    recover: bool

    def words(self, ranks: int, hosts: Sequence[Host]) -> list[str]:
        """Return the command that starts so many ranks, on these hosts or else on this one.

        Raises
        ------
        UserError
            The launcher cannot do what is wanted.
        """
        words = list(self.launcher)
        library = self.mpi_library() if hosts or self.recover else OTHER
        if self.recover and library != OPEN_MPI:
            raise UserError(f"--recover needs Open MPI 5, and {shlex.join(self.launcher)} is {library}")
        if self.recover:
            words += ["--with-ft", "ulfm"]
        named = ",".join(f"{host.name}:{host.ranks}" for host in hosts)
        if hosts and library == OPEN_MPI:
            # By slot: the first host is filled first, and its ranks share memory. dist_llm divides the cores itself.
            words += ["--host", named, "--map-by", "slot", "--bind-to", "none"]
        elif hosts and library == MPICH:
            words += ["-hosts", named]
        elif hosts:
            raise UserError(f"--host and --hostfile go with Open MPI and MPICH, not with {shlex.join(self.launcher)}")
        return [*words, "-n", str(ranks)]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the launcher's environment; each library reads only its own names."""
        # More ranks than cores is an error to Open MPI, and just slower to someone who tries four ranks on a laptop.
        settings = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"} | dict(inherited)
        if self.remote_shell != "ssh":
            program, *arguments = shlex.split(self.remote_shell)
            settings["PRTE_MCA_plm_ssh_agent"] = self.remote_shell
            settings |= {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": program}
            if arguments:
                settings["HYDRA_LAUNCHER_EXTRA_ARGS"] = shlex.join(arguments)
        return settings

    def mpi_library(self) -> str:
        """Ask the launcher which MPI library it belongs to."""
        try:
            asked = [*self.launcher, "--version"]
            answer = subprocess.run(asked, capture_output=True, text=True, errors="replace", timeout=VERSION_S).stdout
        except (OSError, subprocess.TimeoutExpired):
            answer = ""
        return next((name for word, name in SAYS.items() if word in answer), OTHER)
