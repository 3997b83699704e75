"""Directories that are whole or absent: made beside their place, and put there by a rename."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from ..disk import points
from ..disk.durable import TEMPORARY, disk_errors, free_bytes, sync_directory
from ..errors import FailedPrecondition, NotFound, ResourceExhausted


@contextmanager
def staged(target: Path, names: Set[str]) -> Iterator[Path]:
    """Yield a new directory that stands as `target`, whole and durable, once the block ends without an exception.

    Its files are the caller's to sync. `names` are what it may hold: a crash leaves a directory `<target>.tmp`, which
    the next attempt knows by them and removes.

    Raises:
        FailedPrecondition: the target is there and not empty, or another process is just making it.
        NotFound: the directory for it is not there.
    """
    check_free(target)
    if not target.parent.is_dir():
        raise NotFound(f"there is no directory {target.parent} to make {target.name!r} in; create it first")
    temporary = target.with_name(target.name + TEMPORARY)
    with disk_errors(f"making {target}"), _own(temporary, names):
        try:
            yield temporary
            # A rename takes the place of an empty directory; of anything that came meanwhile it says less than this.
            check_free(target)
            points.reached(points.BEFORE_RENAME, target)
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(target.parent)
        points.reached(points.RENAMED, target)


def check_free(target: Path) -> None:
    """Raise FailedPrecondition unless there is nothing at `target`, or an empty directory."""
    if not os.path.lexists(target):
        return
    with disk_errors(f"looking into {target}"):
        if target.is_symlink() or not target.is_dir():
            raise FailedPrecondition(f"{target} is there and is no directory; choose another path")
        found = sorted(entry.name for entry in target.iterdir())
    if found:
        raise FailedPrecondition(f"{target} is not empty: it holds {found[0]!r}; choose another path or move it away")


def check_space(directory: Path, needed: int) -> None:
    """Raise ResourceExhausted when the disk of `directory` has not so many bytes free: better than filling it up."""
    free = free_bytes(directory)
    if free < needed:
        raise ResourceExhausted(
            f"the disk of {directory} has {free} bytes free and {needed} are needed; free some space and try again"
        )


@contextmanager
def _own(temporary: Path, names: Set[str]) -> Iterator[None]:
    """Make the directory anew and hold its lock, which tells it from one that a crash left."""
    if os.path.lexists(temporary):
        with _locked(temporary):
            strangers = {entry.name for entry in temporary.iterdir()} - names
            if strangers:
                raise FailedPrecondition(
                    f"{temporary} is in the way and not ours: it holds {sorted(strangers)[0]!r}; move it away"
                )
            shutil.rmtree(temporary)
    temporary.mkdir()
    with _locked(temporary):
        yield


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FailedPrecondition(f"{directory} is just being made by another; wait for it to end") from None
    try:
        yield
    finally:
        os.close(descriptor)
