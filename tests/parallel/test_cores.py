import os
from pathlib import Path

import pytest

from dist_llm.parallel import cores
from dist_llm.parallel.cores import affinity_mask, bind, cpu_quotas, physical_cores


def tree(root: Path, **files: str) -> Path:
    """A fake system: contents by path."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


def limits(root: Path, **files: str) -> list[float]:
    return sorted(cpu_quotas(tree(root, **files)).values())


def test_version_2_looks_at_all_levels(tmp_path):
    files = {
        "proc/self/cgroup": "0::/jobs/mine",
        "sys/fs/cgroup/jobs/mine/cpu.max": "max 100000",
        "sys/fs/cgroup/jobs/cpu.max": "150000 100000",
        "sys/fs/cgroup/cpu.max": "400000 100000",
        "sys/fs/cgroup/jobs/others/cpu.max": "1000 100000",
    }
    assert limits(tmp_path, **files) == [1.5, 4.0]


def test_version_2_in_a_container(tmp_path):
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 200000"}
    assert limits(tmp_path, **files) == [0.25]


def test_a_path_outside_the_container(tmp_path):
    files = {"proc/self/cgroup": "0::/../../elsewhere", "sys/fs/cgroup/cpu.max": "200000 100000", "cpu.max": "1 100000"}
    assert limits(tmp_path, **files) == [2.0]


def test_version_2_beside_version_1(tmp_path):
    files = {
        "proc/self/cgroup": "3:memory:/a\n0::/a",
        "sys/fs/cgroup/unified/a/cpu.max": "300000 100000",
        "sys/fs/cgroup/memory/a/cpu.cfs_quota_us": "1",
        "sys/fs/cgroup/memory/a/cpu.cfs_period_us": "1",
    }
    assert limits(tmp_path, **files) == [3.0]


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_1(tmp_path, mount):
    files = {
        "proc/self/cgroup": "5:cpuset:/docker/12\n4:cpu,cpuacct:/docker/12\n0::/docker/12",
        f"sys/fs/cgroup/{mount}/docker/12/cpu.cfs_quota_us": "250000",
        f"sys/fs/cgroup/{mount}/docker/12/cpu.cfs_period_us": "100000",
        f"sys/fs/cgroup/{mount}/cpu.cfs_quota_us": "-1",
        f"sys/fs/cgroup/{mount}/cpu.cfs_period_us": "100000",
    }
    assert limits(tmp_path, **files) == [2.5]


def test_version_1_where_the_path_is_the_hosts(tmp_path):
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/12",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000",
    }
    tree(tmp_path, **files)
    (tmp_path / "sys/fs/cgroup/cpu").symlink_to("cpu,cpuacct")
    assert list(cpu_quotas(tmp_path).values()) == [2.0]


@pytest.mark.parametrize("text", ["max 100000", "", "150000", "150000 0", "many 100000", "0 100000"])
def test_what_is_no_limit(tmp_path, text):
    files = {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": text}
    assert limits(tmp_path, **files) == []


def test_missing_files_are_no_limit(tmp_path):
    assert cpu_quotas(tmp_path) == {}
    assert limits(tmp_path, **{"proc/self/cgroup": "0::/a"}) == []
    assert limits(tmp_path, **{"proc/self/cgroup": "nonsense"}) == []
    assert limits(tmp_path, **{"proc/self/cgroup": "4:cpu:/a", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "100000"}) == []


def test_a_cgroup_is_the_same_for_all_its_processes_and_no_others(tmp_path):
    files = {"sys/fs/cgroup/cpu.max": "max 1", "sys/fs/cgroup/a/cpu.max": "9 3", "sys/fs/cgroup/b/cpu.max": "9 3"}
    tree(tmp_path, **files)
    a, b, a_again = (cpu_quotas(tree(tmp_path, **{"proc/self/cgroup": f"0::/{name}"})) for name in "aba")
    assert list(a.values()) == list(b.values()) == [3.0]
    assert a == a_again
    assert a.keys() != b.keys()


def siblings(root: Path, *lists: str) -> Path:
    names = (f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list" for cpu in range(len(lists)))
    return tree(root, **dict(zip(names, lists, strict=True)))


def test_hardware_threads_of_a_core_are_one_core(tmp_path):
    root = siblings(tmp_path, "0,2", "1,3", "0,2", "1,3")
    assert physical_cores(range(4), root) == ((0, 2), (1, 3))
    assert physical_cores((0, 1, 3), root) == ((0,), (1, 3))
    assert physical_cores((2, 3), root) == ((2,), (3,))


@pytest.mark.parametrize(("per_core", "expected"), [(1, ((0,), (1,), (2,))), (2, ((0, 1), (2,)))])
def test_unknown_siblings_are_neighbours(tmp_path, monkeypatch, per_core, expected):
    monkeypatch.setattr(cores.psutil, "cpu_count", lambda logical=True: 4 if logical else 4 // per_core)
    assert physical_cores(range(3), tmp_path) == expected


def test_without_affinity_all_cpus_are_ours(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert affinity_mask() == (0, 1, 2)


def test_a_system_that_forbids_binding(monkeypatch):
    def forbidden(pid, cpus):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    assert not bind(affinity_mask())


def test_bind_moves_threads_that_are_there_already(run):
    program = """
import os, threading
from dist_llm.parallel.cores import affinity_mask, bind
ready, end = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (ready.set(), end.wait()))
thread.start()
ready.wait()
cpu = affinity_mask()[-1]
assert bind([cpu])
print(os.sched_getaffinity(thread.native_id) == os.sched_getaffinity(0) == {cpu})
end.set()
"""
    result = run(0, "-c", program)
    assert (result.returncode, result.stdout.split()) == (0, ["True"]), result.stderr


def test_usable_cores_are_those_of_the_mask_and_of_the_quota(monkeypatch):
    monkeypatch.setattr(cores, "affinity_mask", lambda: (0, 1, 2, 3))
    monkeypatch.setattr(cores, "physical_cores", lambda cpus: ((0, 1), (2, 3)))
    for quotas, expected in (({}, 2), ({"a": 8.0}, 2), ({"a": 1.9}, 1), ({"a": 0.5}, 1)):
        monkeypatch.setattr(cores, "cpu_quotas", lambda quotas=quotas: quotas)
        assert cores.usable_cores() == expected
