"""Small file systems of our own: a tmpfs that fills up, and images whose power can be cut."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_SHUTDOWN = 0x8004587D
"""FS_IOC_SHUTDOWN: the file system stops at once, as if the power were cut."""
_NOLOGFLUSH = 2
"""What is in its journal's memory is lost, too."""
_IMAGE_BYTES = {"ext4": 64 << 20, "xfs": 320 << 20}
_TRIES = 100
_PAUSE_S = 0.02


@functools.cache
def why_not(kind: str) -> str | None:
    """Why a file system of a kind cannot be mounted here; None where it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if kind != "tmpfs" and shutil.which(f"mkfs.{kind}") is None:
        return f"mkfs.{kind} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        try:
            if kind == "tmpfs":
                with small_tmpfs(Path(folder), 1 << 20):
                    return None
            with Image(Path(folder), kind):
                return None
        except subprocess.CalledProcessError as error:
            return f"mounting {kind}: {error.stderr.strip()}"


@contextlib.contextmanager
def small_tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of some bytes, mounted below a folder."""
    place = folder / "mounted"
    place.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield place
    finally:
        _unmount(place)
        place.rmdir()


class Image(contextlib.AbstractContextManager["Image"]):
    """A file system in a file, mounted through a loop device."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.place = folder / "mounted"
        self._image = folder / "image"
        self._kind = kind
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_BYTES[kind])
        _run(f"mkfs.{kind}", "-q", str(self._image))
        self._mount()

    def cut_power(self) -> None:
        """Stop at once: what was not made durable is gone."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def restart(self) -> None:
        """Come back up: the file system recovers what its journal has."""
        _unmount(self.place)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def __exit__(self, *_: object) -> None:
        _unmount(self.place)


def _unmount(place: Path) -> None:
    for _ in range(_TRIES):
        with contextlib.suppress(subprocess.CalledProcessError):
            return _run("umount", str(place))
        # the last process that used it is going
        time.sleep(_PAUSE_S)
    return _run("umount", str(place))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
