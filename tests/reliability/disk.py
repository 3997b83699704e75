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
from dataclasses import dataclass
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
_Entries = dict[str, int]
"""The names in a folder, each with its inode."""


@dataclass(frozen=True, slots=True)
class _Tree:
    """What is there: the names in each folder and the bytes of each file, by inode."""

    folders: dict[int, _Entries]
    files: dict[int, bytes]


class Disk:
    """Watches a directory and tells what a power failure at a point may leave of it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[int, _Entries] = {}
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
            self.commit(committed)
        yield "with what is synced", self._image(now, choose, 0)
        yield "with a part of what is not synced", self._image(now, choose, 0.5)
        yield "with everything", self._image(now, choose, 1)

    def sync(self, path: Path) -> None:
        """The file or folder has just been synced."""
        if not path.is_relative_to(self._root):
            return
        now, inode = self._now(), path.stat().st_ino
        if inode in now.folders:
            self._folders[inode] = now.folders[inode]
        else:
            self._synced[inode] = now.files[inode]
            # Its meta page too, which a commit leaves to the next.
            self._metas_before.pop(inode, None)
        # The number of a file that is gone, and was not durable, is soon given to another.
        known = now.folders.keys() | now.files.keys() | self._durable(self._root.stat().st_ino)
        self._folders = {inode: names for inode, names in self._folders.items() if inode in known}
        self._synced = {inode: data for inode, data in self._synced.items() if inode in known}
        self._metas_before = {inode: data for inode, data in self._metas_before.items() if inode in known}

    def commit(self, environment: Path) -> None:
        """The environment has just committed."""
        file = environment / DATA_FILE
        inode = file.stat().st_ino
        self._metas_before[inode] = self._synced.get(inode, b"")[:METAS]
        self._synced[inode] = file.read_bytes()

    def _now(self) -> _Tree:
        tree = _Tree({}, {})
        for folder, folders, files in os.walk(self._root):
            names = tree.folders[Path(folder).stat().st_ino] = {}
            for name in [*folders, *(name for name in files if name != _LOCK_FILE)]:
                names[name] = Path(folder, name).stat().st_ino
            for name in files:
                if name in names:
                    tree.files[names[name]] = Path(folder, name).read_bytes()
        return tree

    def _durable(self, folder: int) -> set[int]:
        """The inodes that durable names lead to from a folder on."""
        found = set(self._folders.get(folder, {}).values())
        return found.union(*(self._durable(inode) for inode in found if inode in self._folders))

    def _image(self, now: _Tree, choose: random.Random, newer: float, pages: float = 0) -> Image:
        """Each newer name and sector is there by the chance `newer`, each page of an unfinished commit by `pages`."""
        found: Image = {}

        def fill(folder: int, place: Path) -> None:
            durable, latest = self._folders.get(folder, {}), now.folders.get(folder, {})
            for name in sorted(durable.keys() | latest.keys()):
                inode = (latest if choose.random() < newer else durable).get(name)
                if inode is None:
                    continue
                # Without its folder no file is found.
                if inode in now.folders or inode in self._folders:
                    found[place / name] = None
                    fill(inode, place / name)
                else:
                    found[place / name] = self._data(place / name, inode, now, choose, newer, pages)

        fill(self._root.stat().st_ino, Path())
        return found

    def _data(self, name: Path, inode: int, now: _Tree, choose: random.Random, newer: float, pages: float) -> bytes:
        synced = self._synced.get(inode, b"")
        latest = now.files.get(inode, synced)
        if name.name != DATA_FILE or newer == 1:
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
