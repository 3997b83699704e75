"""What a disk may hold when the power fails: a model of names, bytes and LMDB's pages, fed by syncs and commits.

Certain is what was synced, and only that: the bytes of a file as of its own last sync, the names of a folder as of its
own. Everything newer may be there, may be missing, or may be there in part, sector by sector. Of an LMDB environment
two more things are certain: it syncs all pages of a commit before it writes the meta page, and with `NOMETASYNC` that
page itself becomes durable with the next commit only.

The syncs of Python are seen where they happen. Those of LMDB are not: a commit counts as synced as its environment is
set to sync, which a test of its own looks at.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from memory3.store.disk.environment import DATA_FILE

METAS = 2 * 4_096
"""LMDB's two meta pages, of which a commit writes one, in one sector: whole or not at all."""
SECTOR = 512
NOT_SYNCED = "kv"
"""The environment whose meta page is not synced."""
_LOCK_FILE = "lock.mdb"

Image = dict[Path, bytes | None]
"""Bytes of the files by their path under the root; None for a folder."""
_Entries = dict[Path, tuple[int, bytes | None]]
"""The same with the inode in front."""


class Disk:
    """Watches a data directory and tells what a power failure at a point may leave of it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[Path, int] = {}
        self._folders: set[int] = set()
        self._synced: dict[int, bytes] = {}
        self._metas_before: dict[int, bytes] = {}

    def images(self, choose: random.Random, committed: Path | None = None) -> Iterator[tuple[str, Image]]:
        """Yield what the disk may hold now, each with a word for it.

        When the environment `committed` has just committed: first what may be left while it did, then from now on.
        """
        now = self._now()
        if committed is not None:
            for share in (0.0, 0.5, 1.0):
                yield f"with {share:.0%} of a commit's pages and not its meta page", self._image(now, choose, 0, share)
            self._sync_file(now[(committed / DATA_FILE).relative_to(self._root)])
        yield "with what is synced", self._image(now, choose, 0)
        yield "with a part of what is not synced", self._image(now, choose, 0.5)
        yield "with everything", {name: data for name, (_, data) in now.items()}

    def sync(self, path: Path) -> None:
        """The file or folder has just been synced."""
        if not path.is_relative_to(self._root):
            return
        now, place = self._now(), path.relative_to(self._root)
        if path.is_dir():
            self._names = {name: inode for name, inode in self._names.items() if name.parent != place}
            self._names |= {name: inode for name, (inode, _) in now.items() if name.parent == place}
        else:
            self._sync_file(now[place])
        # The number of a file that is gone, and was not durable, is soon given to another.
        known = {inode for inode, _ in now.values()} | set(self._names.values())
        self._folders = (self._folders & known) | {inode for inode, data in now.values() if data is None}
        self._synced = {inode: data for inode, data in self._synced.items() if inode in known}
        self._metas_before = {inode: data for inode, data in self._metas_before.items() if inode in known}

    def _now(self) -> _Entries:
        found: _Entries = {}
        for folder, folders, files in os.walk(self._root):
            for path in (Path(folder, name) for name in files if name != _LOCK_FILE):
                found[path.relative_to(self._root)] = (path.stat().st_ino, path.read_bytes())
            for path in (Path(folder, name) for name in folders):
                found[path.relative_to(self._root)] = (path.stat().st_ino, None)
        return found

    def _sync_file(self, entry: tuple[int, bytes | None]) -> None:
        inode, data = entry
        self._metas_before[inode] = self._synced.get(inode, b"")[:METAS]
        self._synced[inode] = data or b""

    def _image(self, now: _Entries, choose: random.Random, newer: float, pages: float = 0.0) -> Image:
        """Each newer name and sector is there by the chance `newer`, each page of an unfinished commit by `pages`."""
        names = {}
        for name in sorted(self._names.keys() | now.keys()):
            latest, _ = now.get(name, (None, None))
            inode = latest if choose.random() < newer else self._names.get(name)
            # Sorted, so that folders come before what is in them: without its folder no file is found.
            if inode is not None and (name.parent == Path() or name.parent in names):
                names[name] = inode
        bytes_now = dict(now.values())
        return {name: self._data(name, inode, bytes_now, choose, newer, pages) for name, inode in names.items()}

    def _data(
        self,
        name: Path,
        inode: int,
        bytes_now: dict[int, bytes | None],
        choose: random.Random,
        newer: float,
        pages: float,
    ) -> bytes | None:
        synced = self._synced.get(inode, b"")
        latest = bytes_now.get(inode, synced)
        if latest is None or inode in self._folders:
            return None
        if name.name != DATA_FILE:
            return _mixed(synced, latest, newer, choose)
        metas = synced[:METAS]
        if name.parent.name == NOT_SYNCED and self._metas_before.get(inode) and choose.random() < 0.5:
            metas = self._metas_before[inode]
        return metas + _mixed(synced, latest, pages, choose)[len(metas) :]


def write_image(image: Image, folder: Path) -> None:
    """Make a folder of what a disk holds."""
    folder.mkdir()
    for name, data in image.items():
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


def _mixed(old: bytes, new: bytes, share: float, choose: random.Random) -> bytes:
    """The old bytes with sectors of the new by the chance `share`; as long as either, filled up with zeros."""
    if old == new or not share:
        return old
    if share == 1:
        return new
    size = len(choose.choice((old, new)))
    old, new = old[:size].ljust(size, b"\0"), new[:size].ljust(size, b"\0")
    starts = range(0, size, SECTOR)
    return b"".join((new if choose.random() < share else old)[start : start + SECTOR] for start in starts)
