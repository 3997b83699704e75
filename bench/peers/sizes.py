"""What a store takes on disk and in memory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from memory3.bench.memory import resident_bytes


class Memory(TypedDict):
    """Bytes: `own` is what no file backs; `mapped` are pages of files, which the system may take back at any time."""

    own: int
    mapped: int


def disk_bytes(path: Path) -> int:
    """Blocks that the files under `path` take."""
    return sum(found.lstat().st_blocks * 512 for found in path.rglob("*") if not found.is_dir())


def memory_bytes(others: Sequence[int] = ()) -> Memory:
    """What this process and others hold in memory; what several share counts once, for the largest holder."""
    own = shared = mapped = 0
    for process in [os.getpid(), *others]:
        anonymous, in_common, of_files = resident_bytes(process)
        own += anonymous
        shared, mapped = max(shared, in_common), max(mapped, of_files)
    return Memory(own=own + shared, mapped=mapped)


def grown(before: Memory, after: Memory) -> Memory:
    return Memory(own=after["own"] - before["own"], mapped=after["mapped"] - before["mapped"])
