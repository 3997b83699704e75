"""What a store takes on disk and in memory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


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
        status = Path(f"/proc/{process}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        own += int(fields["RssAnon"].split()[0]) << 10
        shared = max(shared, int(fields["RssShmem"].split()[0]) << 10)
        mapped = max(mapped, int(fields["RssFile"].split()[0]) << 10)
    return Memory(own=own + shared, mapped=mapped)


def grown(before: Memory, after: Memory) -> Memory:
    return Memory(own=after["own"] - before["own"], mapped=after["mapped"] - before["mapped"])
