"""How much memory this process holds, and a bound on it that the kernel keeps (control groups, version 1)."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup/memory")
_LIMIT = "memory.limit_in_bytes"
_PROCESSES = "cgroup.procs"
_LOOK_S = 0.02


class NoLimit(Exception):
    """The kernel keeps no bound for us; the message says why and what to do."""


def resident_bytes(process: int | str = "self") -> tuple[int, int, int]:
    """Return the resident bytes of a process: what no file backs, shared memory, and mapped files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    anonymous, shared, mapped = (int(lines[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem", "RssFile"))
    return anonymous, shared, mapped


def memory_bytes() -> dict[str, int]:
    """Return the resident bytes that no file backs, and those of mapped files, which the kernel may take back."""
    anonymous, _, mapped = resident_bytes()
    return {"anonymous": anonymous, "mapped": mapped}


class Peak:
    """The most resident bytes that no file backed at any time within a block, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.anonymous = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.anonymous = max(self.anonymous, memory_bytes()["anonymous"])
            if self._stop.wait(_LOOK_S):
                return


def forget_files(folder: Path) -> None:
    """Have the kernel forget what it keeps in memory of the files in a folder; nobody may have them open."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def memory_limit(gib: float | None) -> Iterator[None]:
    """Hold this process, the files that it reads and writes included, to so many GiB; None is no bound.

    Over it the kernel first takes back pages of files, then ends the process.

    Raises:
        NoLimit: there are no control groups of version 1 here, or they are not ours to change.
    """
    if gib is None:
        yield
        return
    own = _own_group()
    group = own / f"memory3-bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / _LIMIT).write_text(str(int(gib * 2**30)))
        (group / _PROCESSES).write_text(str(os.getpid()))
    except OSError as error:
        raise NoLimit(f"memory cannot be bound: {error}; run it as root, or without --memory-gib") from error
    try:
        yield
    finally:
        (own / _PROCESSES).write_text(str(os.getpid()))
        group.rmdir()


def _own_group() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") and (_ROOT / path.lstrip("/") / _LIMIT).exists():
            return _ROOT / path.lstrip("/")
    raise NoLimit(
        f"memory cannot be bound: no control group of version 1 has us under {_ROOT}; bind it from outside, as "
        "`systemd-run --scope -p MemoryMax=16G` does, and run it without --memory-gib"
    )
