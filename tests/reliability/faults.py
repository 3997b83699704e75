"""The seam in the store where its proofs take hold: `store/disk/points.py`."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memory3.store.disk import points

POINTS: tuple[str, ...] = tuple(value for name, value in vars(points).items() if name.isupper())
"""Every point that the store names: one that is added there is a point of these proofs too."""
BACKUP = "backup"
"""In the paths of what a backup writes, and in no other."""
BACKUP_POINTS: tuple[str, ...] = (
    points.COPYING,
    points.WRITING_FILE,
    points.BEFORE_RENAME,
    points.RENAMED,
    points.DIRECTORY_SYNCED,
)
_TELLING = {"collections", "records", "kv"}
"""Folders that are named with what lies in them."""


@dataclass(frozen=True, slots=True)
class KillPoint:
    """End the process when it comes to `point` for the `nth` time, within a backup or outside of one."""

    point: str
    nth: int
    in_backup: bool = False


def kill_at(kill: KillPoint, tell: Callable[[str], None]) -> None:
    """Let this process die, as by `kill -9`, at a point of its work from now on, and `tell` just before on what file.

    It is told as `file_at` names it.
    """
    mutex = threading.Lock()
    left = kill.nth

    def reached(point: str, path: Path) -> None:
        nonlocal left
        with mutex:
            left -= point == kill.point and kill.in_backup == (BACKUP in str(path))
            if not left:
                tell(file_at(path))
                os.kill(os.getpid(), signal.SIGKILL)

    points.reached = reached


def file_at(path: Path) -> str:
    """Name the file, folder or environment of a point, alike for all shards and collections."""
    name = re.sub(r"\d+", "N", path.name)
    return f"{path.parent.name}/{name}" if path.parent.name in _TELLING else name


@contextmanager
def watched(watch: Callable[[str, Path], None]) -> Iterator[None]:
    """Within it every point that the store's work passes in this process is told to `watch`."""
    original = points.reached
    points.reached = watch  # type: ignore[assignment]
    try:
        yield
    finally:
        points.reached = original


@contextmanager
def syncs_watched(before: Callable[[Path], None], after: Callable[[Path], None]) -> Iterator[None]:
    """Within it every `os.fsync` of this process is told, with the file or folder that it is of."""
    original = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        before(path)
        original(descriptor)
        after(path)

    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = original


def folder_in_memory() -> Path | None:
    """Where a directory costs no waiting for a disk, if this machine has such a place."""
    place = Path("/dev/shm")
    return place if os.access(place, os.W_OK) else None
