"""What this process may use of the machine: memory and processors, inside containers too."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path

import pyarrow as pa

from backtestr.errors import NetworkFilesystemError

_CGROUPS = Path("/sys/fs/cgroup")
_FALLBACK_BYTES = 4 * 1024**3


def memory_bytes(cgroups: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory this process may use: the machine's, or the tightest limit of its control groups.

    Args:
        cgroups: where control groups are mounted.
        membership: file that names this process's group.

    Example:
        >>> memory_bytes() > 0
        True
    """
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        physical = _FALLBACK_BYTES
    limits = [int(text) for text in _group_values(cgroups, membership, "memory.max") if text.isdigit()]
    old = _read(cgroups / "memory" / "memory.limit_in_bytes")
    if old is not None and old.isdigit():
        limits.append(int(old))
    return min([physical, *(limit for limit in limits if limit > 0)])


def give_back_memory() -> None:
    """Hand memory that was freed to the system: allocators keep much of it, for more of what just ended.

    Example:
        >>> give_back_memory()
    """
    pa.default_memory_pool().release_unused()
    # GNU's allocator alone needs to be told
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def state_home() -> Path | None:
    """The user's folder for what programs remember (XDG base directories); None where the user has no home.

    Example:
        >>> home = state_home()
        >>> home is None or home.name == "backtestr"
        True
    """
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path.home() / ".local" / "state") / "backtestr"
    except RuntimeError:
        return None


def processors(cgroups: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Processors this process may use: its affinity, or the tightest quota of its control groups, rounded up.

    Args:
        cgroups: where control groups are mounted.
        membership: file that names this process's group.

    Example:
        >>> processors() >= 1
        True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for text in _group_values(cgroups, membership, "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            count = min(count, math.ceil(int(quota) / int(period)))
    return max(count, 1)


NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "davfs"}
    | {"fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.gcsfuse"}
)
"""File systems whose locks and syncs cannot be trusted."""


def filesystem(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Type of the file system that a path is or would be on, such as ``ext4``; None where the system does not tell.

    Args:
        path: a file or folder, which need not exist.
        mounts: the table of mounted file systems.

    Example:
        >>> filesystem(Path("/")) in NETWORK_FILESYSTEMS
        False
    """
    table = _read(mounts)
    if table is None:
        return None
    kinds = {}
    for line in table.splitlines():
        _, at, kind, *_ = line.split(" ")
        # blanks and the like are written in octal
        kinds[Path(at.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "replace"))] = kind
    real = path.resolve()
    return next((kinds[folder] for folder in (real, *real.parents) if folder in kinds), None)


def refuse_network(path: Path) -> None:
    """Refuse a path on a network file system.

    Raises:
        NetworkFilesystemError: it is on one.
    """
    kind = filesystem(path)
    if kind in NETWORK_FILESYSTEMS:
        raise NetworkFilesystemError(
            f"{path} is on {kind}, whose locks and syncs cannot be trusted; choose a local folder, or "
            "take the risk with network_fs='allow'"
        )


def _group_values(cgroups: Path, membership: Path, name: str) -> list[str]:
    """A setting's value in this process's group and every group around it."""
    listing = _read(membership) or ""
    own = next((line[3:] for line in listing.splitlines() if line.startswith("0::")), "/")
    group = cgroups / own.lstrip("/")
    folders = [folder for folder in (group, *group.parents) if folder == cgroups or cgroups in folder.parents]
    return [text for folder in {*folders, cgroups} if (text := _read(folder / name)) is not None]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
