import threading
import time
from pathlib import Path

import pytest

from dist_llm.measuring import energy
from dist_llm.measuring.energy import PackageEnergy

RANGE_UJ = 262_143_328_850


@pytest.fixture
def stand(tmp_path):
    """Let a zone's counter stand somewhere; the zones are links, as in the kernel's tree."""
    links = tmp_path / "sys/class/powercap"
    links.mkdir(parents=True)

    def write(zone, energy_uj, name="package-0"):
        folder = tmp_path / "sys/devices/virtual/powercap" / zone
        if not folder.exists():
            folder.mkdir(parents=True)
            (links / zone).symlink_to(folder)
        (folder / "name").write_text(name + "\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        (folder / "new").write_text(f"{energy_uj}\n")
        (folder / "new").replace(folder / "energy_uj")  # nobody sees half of it

    return write


def test_packages_are_added_and_no_other_zone(tmp_path, stand):
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1-die-0",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",  # the first one again, by another way
    }
    for zone, name in zones.items():
        stand(zone, 5_000_000, name)
    with PackageEnergy(tmp_path) as used:
        for digit, (zone, name) in enumerate(zones.items()):
            stand(zone, 5_000_000 + 10**digit, name)
    assert used.joules == 1_001 / 1e6


def test_what_was_taken_before_and_after_does_not_count(tmp_path, stand):
    stand("intel-rapl:0", 9_000_000)
    used = PackageEnergy(tmp_path)
    stand("intel-rapl:0", 10_000_000)
    with used:
        stand("intel-rapl:0", 12_000_000)
    stand("intel-rapl:0", 15_000_000)
    assert used.joules == 2


def test_a_counter_that_begins_again_at_0_with_every_look(tmp_path, stand):
    stand("intel-rapl:0", RANGE_UJ - 1_000_000)
    with PackageEnergy(tmp_path) as used:
        for energy_uj in (2_000_000, 1_000_000, 500_000):
            stand("intel-rapl:0", energy_uj)
            used.look()
    assert used.joules == pytest.approx(3 + (RANGE_UJ / 1e6 - 1) + (RANGE_UJ / 1e6 - 0.5))


def test_it_looks_again_by_itself(tmp_path, stand, monkeypatch):
    monkeypatch.setattr(energy, "PERIOD_S", 0.01)
    stand("intel-rapl:0", 0)
    with PackageEnergy(tmp_path) as used:
        stand("intel-rapl:0", 7_000_000)
        end = time.monotonic() + 30
        while used.joules != 7 and time.monotonic() < end:
            time.sleep(0.01)
        assert used.joules == 7
    assert "energy" not in {thread.name for thread in threading.enumerate()}


def test_why_it_is_not_known(tmp_path, stand, monkeypatch):
    with PackageEnergy(tmp_path) as used:
        pass
    assert used.joules == "there are no RAPL counters; virtual machines and many containers have none"

    stand("intel-rapl:0", 1)
    read_text = Path.read_text
    failure = PermissionError(13, "Permission denied")

    def fail(path, *args, **options):
        if path.name == "energy_uj":
            raise failure
        return read_text(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", fail)  # root, as which tests may run, is denied nothing
    with PackageEnergy(tmp_path) as used:
        pass
    assert "chmod a+r" in used.joules

    failure = OSError(61, "No data available")
    with PackageEnergy(tmp_path) as used:
        pass
    assert used.joules == "RAPL counters cannot be read: No data available"


def test_a_container_that_hides_the_folder_behind_the_links(tmp_path, stand):
    stand("intel-rapl:0", 1)
    (tmp_path / "sys/devices").rename(tmp_path / "sys/hidden")
    with PackageEnergy(tmp_path) as used:
        pass
    assert "no RAPL counters" in used.joules


def test_this_machine():
    with PackageEnergy() as used:
        sum(range(10**6))
    assert used.joules >= 0 if isinstance(used.joules, float) else used.joules
