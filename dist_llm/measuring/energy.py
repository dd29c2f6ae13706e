"""Energy of a host's processors, from the counters of RAPL (running average power limit) that Linux's powercap shows.

Intel's processors have them, and AMD's under the same names. What is taken is the package: cores, caches, memory
controller, and graphics if there are any. Memory (``dram``) and platform (``psys``, which holds the package again) are
left out: few processors count them, and with them the figures of two machines would not mean the same. The plug gives
more. A package counts for all who use it, so one process of a host is to ask, while nothing else runs there.

A counter begins again at 0 after 2^32 of its units, which are 66 kJ or 262 kJ: at 250 W, 4 minutes or 17. Whether it
has done so twice cannot be seen, so a thread looks at it every 20 seconds: no package takes 66 kJ in that time.

How close RAPL comes to a power meter: Khan et al. (2018), RAPL in Action, ACM TOMPECS 3(2).
"""

import threading
from pathlib import Path
from typing import Self

from dist_llm.parallel.cores import ROOT

PERIOD_S = 20.0


class PackageEnergy:
    """The energy that all packages of this host take in a ``with`` block.

    Parameters
    ----------
    root : Path
        Folder that holds ``sys``.
    """

    def __init__(self, root: Path = ROOT) -> None:
        names = sorted(root.glob("sys/class/powercap/intel-rapl:*/name"))
        self._packages = [name.parent for name in names if name.read_text().startswith("package")]
        self._why_not = (
            "" if self._packages else "there are no RAPL counters; virtual machines and many containers have none"
        )
        self._last_uj: dict[Path, int] = {}
        self._used_uj = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again, name="energy", daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()

    def _look_again(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self.look()

    def look(self) -> None:
        """Add what was taken since the last look."""
        try:
            for package in self._packages:
                now_uj = int((package / "energy_uj").read_text())
                taken_uj = now_uj - self._last_uj.get(package, now_uj)
                if taken_uj < 0:  # it has begun again at 0
                    taken_uj += int((package / "max_energy_range_uj").read_text())
                self._used_uj += taken_uj
                self._last_uj[package] = now_uj
        except PermissionError:
            self._why_not = "energy_uj is for root only: chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj allows it"
        except OSError as error:
            self._why_not = f"RAPL counters cannot be read: {error.strerror}"

    @property
    def joules(self) -> float | str:
        """The energy of the block up to the last look or, in words, why it is not known."""
        return self._why_not or self._used_uj / 1e6
