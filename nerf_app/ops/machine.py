"""What this process may use of the machine."""

import math
import os
from pathlib import Path


def available_threads() -> int:
    """CPU cores that the scheduler lets this process run on, or fewer where a container limits its CPU time; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        cores = os.cpu_count() or 1
    return max(1, math.floor(min(cores, cpu_quota(Path("/")))))


def cpu_quota(root: Path) -> float:
    """Cores' worth of CPU time that the control groups of this process allow: the least of all, infinite without any.

    Args:
        root: where /proc and /sys are.
    """
    quotas = [math.inf]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")  # version 1 has a tree for each controller
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = mount / path.lstrip("/")
        quotas += [_quota_of(folder) for folder in (group, *group.parents) if folder.is_relative_to(mount)]
    return min(quotas)


def _quota_of(group: Path) -> float:
    """The limit of one control group, of either version."""
    words = _read(group / "cpu.max").split() or [_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = (int(word) if word.isdecimal() else -1 for word in words)  # "max", -1 and no file: no limit
    return quota / period if quota > 0 and period > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
