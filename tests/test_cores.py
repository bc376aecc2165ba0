"""How many cores a control group gives."""

import math

import pytest

from stylematch.tables import cores
from stylematch.tables.cores import quota_cores, usable_cores


def machine(root, groups, **files):
    """Write what a machine's ``proc`` and ``sys`` say; return its root."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "4:memory:/pod/x\n3:cpu,cpuacct:/pod/x\n0::/\n"
V1_FOLDER = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a.slice/b.service\n", {"sys/fs/cgroup/a.slice/cpu.max": "400000 100000\n"}, 4),
        (
            "0::/a/b\n",
            {"sys/fs/cgroup/a/cpu.max": "200000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"},
            2,
        ),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        (V1, {f"{V1_FOLDER}/cpu.cfs_quota_us": "300000\n", f"{V1_FOLDER}/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {f"{V1_FOLDER}/cpu.cfs_quota_us": "-1\n", f"{V1_FOLDER}/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
    ],
)
def test_quota_of_control_groups(tmp_path, groups, files, expected):
    assert quota_cores(machine(tmp_path, groups, **files)) == expected


def test_no_control_groups(tmp_path):
    assert quota_cores(tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.5, 2), (math.inf, 64), (100.0, 64)])
def test_usable_cores_are_those_that_there_is_time_for(monkeypatch, quota, expected):
    monkeypatch.setattr(cores, "quota_cores", lambda: quota)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert usable_cores() == expected
