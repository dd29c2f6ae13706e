"""The processes of one contestant, seen from the benchmark: started once, asked in turns, ended for certain.

Starting, importing, compiling and warming up happen before the first turn. Between their turns all processes of a team
sleep, each of them waiting for a line of its own: no rank waits for another inside MPI, which would keep a core busy.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dist_llm.benchmarking.channel import Channel, listen
from dist_llm.benchmarking.contestants import Contestant
from dist_llm.benchmarking.processes import PATIENCE_S, THREADS, end, find_mpirun, last_words
from dist_llm.errors import RunError


class Team:
    """A contestant's processes.

    Parameters
    ----------
    contestant : Contestant
    config_file : Path
        TOML of the whole configuration.
    steps : int
        Training steps in a turn.
    folder : Path
        For sockets and logs, with a short name: the path of a socket has about a hundred characters.

    Attributes
    ----------
    setup : str
        What the contestant says about how it works, after `start`.
    """

    def __init__(self, contestant: Contestant, config_file: Path, steps: int, folder: Path) -> None:
        self.contestant, self.setup = contestant, ""
        self._folder, self._log = folder, folder / f"{contestant.name}.log"
        self._task: dict[str, Any] = {
            "contestant": dataclasses.asdict(contestant),
            "config": str(config_file),
            "steps": steps,
            "socket": str(folder / f"{contestant.name}.socket"),
            "meeting": str(folder / f"{contestant.name}.meeting"),
        }
        self._started: list[subprocess.Popen] = []
        self._channels: list[Channel] = []

    def start(self) -> None:
        """Start the processes, and wait until all are warm.

        Raises
        ------
        RunError
            One of them cannot; the message says why.
        """
        task_file = self._folder / f"{self.contestant.name}.json"
        task_file.write_text(json.dumps(self._task), encoding="utf-8")
        worker = [sys.executable, "-m", "dist_llm.benchmarking.worker", str(task_file)]
        n = self.contestant.processes
        if self.contestant.by_mpirun:
            mpirun = find_mpirun()
            if mpirun is None:
                raise RunError("mpirun is missing")
            commands = [[mpirun, "-n", str(n), *worker]]
        else:
            commands = [[*worker, str(rank)] for rank in range(n)]
        environment = os.environ | dict.fromkeys(THREADS, str(self.contestant.threads))
        with listen(Path(self._task["socket"])) as listener, self._log.open("wb") as log:
            for command in commands:
                # In a session of its own: Ctrl-C comes to the benchmark, which ends the workers.
                self._started.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            channels: dict[int, Channel] = {}
            while len(channels) < n:
                try:
                    channel = Channel(listener.accept()[0])
                except TimeoutError:
                    if any(process.poll() is not None for process in self._started):
                        raise RunError(self._last_words()) from None
                    continue
                self._channels.append(channel)
                hello = channel.receive()
                if hello is None:
                    raise RunError(self._last_words())
                channels[hello["rank"]] = channel
        self._channels = [channels[rank] for rank in range(n)]
        self.setup = self._answers()[0]["setup"]

    def turn(self) -> list[dict[str, Any]]:
        """Let the team work for one turn; return each process's answer.

        Raises
        ------
        RunError
            A process failed.
        """
        for channel in self._channels:
            channel.send({"go": True})
        return self._answers()

    def _answers(self) -> list[dict[str, Any]]:
        answers = []
        for channel in self._channels:
            answer = channel.receive()
            if answer is None:
                raise RunError(self._last_words())
            if "error" in answer:
                raise RunError(answer["error"])
            answers.append(answer)
        return answers

    def dismiss(self) -> None:
        """Tell all processes to end, and do not wait for it."""
        for channel in self._channels:
            channel.close()

    def end(self) -> None:
        """End all processes: by the end of the stream, and where that does not help, by signals."""
        self.dismiss()
        # One that was still warming up does not listen, and need not be waited for.
        end(self._started, PATIENCE_S if self.setup else 0.0)

    def _last_words(self) -> str:
        return last_words(self._log.read_text(errors="replace"))
