"""Proof: whatever the power leaves on the disk at any point, the store opens it and has all that it acknowledged."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from memory3.store import limits
from memory3.store.collection import Collection
from memory3.store.derived import at_once
from memory3.store.directory import DataDirectory
from memory3.store.disk import points
from memory3.store.errors import Memory3Error
from memory3.store.maintenance import Maintenance

from .content import DIMENSION, EMBEDDER, FINGERPRINTS, embedded_of, texts_of, values_of
from .disk import Disk, Image, write_image
from .examine import Store, examine
from .faults import folder_in_memory, syncs_watched, watched
from .oracle import ABSENT, Oracle
from .outcome import Outcome

MAIN, PASSING = "main", "passing"
"""A collection that stays, and one that is dropped and made again."""
KEYS = 10
BATCH_MAX = 3
LIVES_ON_EVERY = 3
"""Of so many disks one is also written to after the failure."""
VIOLATIONS_MAX = 20
SNAPSHOT_CHANGES_MIN, CHANGES_KEPT = 6, 4


class _Enough(Exception):
    """The failures asked for have been tried."""


@dataclass
class _Expected:
    """What must be found: an oracle for each collection, and whether it may, or may not, be there."""

    oracles: dict[str, Oracle] = field(default_factory=dict)
    exists: dict[str, set[bool]] = field(default_factory=dict)

    @contextmanager
    def change(self, name: str, exists: bool) -> Iterator[None]:
        """Within it a collection is made or dropped."""
        if exists:
            self.oracles[name] = Oracle()
        self.exists[name] = {exists, not exists}
        yield
        self.exists[name] = {exists}


def power_failures(failures: int, seed: int = 0) -> Outcome:
    """Let the power fail at the first `failures` durable acts of the work, each time on several disks."""
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        return _power_failures(Path(folder), failures, seed)


def _power_failures(folder: Path, failures: int, seed: int) -> Outcome:
    outcome = Outcome("power", "power failure at every durable act, on disks that hold more or less of what was new")
    work = _Work(folder, failures, outcome, random.Random(seed))
    before = limits.SNAPSHOT_CHANGES_MIN, limits.CHANGES_KEPT
    limits.SNAPSHOT_CHANGES_MIN, limits.CHANGES_KEPT = SNAPSHOT_CHANGES_MIN, CHANGES_KEPT
    try:
        with (
            patch.object(Maintenance, "wake", _save_at_once),
            watched(work.point),
            syncs_watched(work.before_sync, work.after_sync),
        ):
            work.run()
    except _Enough:
        pass
    finally:
        limits.SNAPSHOT_CHANGES_MIN, limits.CHANGES_KEPT = before
    return outcome.done()


def _save_at_once(maintenance: Maintenance) -> None:
    """Do by the thread of the changes what one in the background does otherwise: failures come in one order."""
    if maintenance._derived.save_is_due():
        maintenance._derived.save(at_once)


class _Work:
    """Changes of every kind on one data directory, and the failures that come in between."""

    def __init__(self, folder: Path, failures: int, outcome: Outcome, choose: random.Random) -> None:
        self._data = folder / "data"
        self._scratch = folder / "after"
        self._failures = failures
        self._outcome = outcome
        self._choose = choose
        self._disk = Disk(self._data)
        self._expected = _Expected()
        self._failing = False

    def run(self) -> None:
        turn = 0
        while True:
            with DataDirectory.open(self._data) as directory:
                for _ in range(self._choose.randint(1, 12)):
                    turn += 1
                    name = PASSING if self._choose.random() < 0.2 else MAIN
                    self._turn(directory, name, f"{turn}")

    def _turn(self, directory: DataDirectory, name: str, version: str) -> None:
        expected, choose = self._expected, self._choose
        if True not in expected.exists.get(name, {False}):
            with expected.change(name, exists=True):
                directory.create_collection(name, EMBEDDER, DIMENSION)
        if name == PASSING and choose.random() < 0.4:
            with expected.change(name, exists=False):
                directory.drop_collection(name)
            return
        _change(directory.collection(name), expected.oracles[name], choose, version)

    def point(self, point: str, path: Path) -> None:
        self._fail(f"{point} of {path.name}", point, path if point == points.COMMITTED else None)

    def before_sync(self, path: Path) -> None:
        self._fail(f"sync of {path.name}", "sync")

    def after_sync(self, path: Path) -> None:
        if not self._failing:
            self._disk.sync(path)

    def _fail(self, where: str, kind: str, committed: Path | None = None) -> None:
        """The power fails here: look at each disk that may be left."""
        if self._failing:
            return
        self._failing = True
        counts, violations = self._outcome.counts, self._outcome.violations
        try:
            counts["failures"] += 1
            self._outcome.places["failure", kind] += 1
            for what, image in self._disk.images(self._choose, committed):
                counts["disks"] += 1
                found = self._after(image, lives_on=counts["disks"] % LIVES_ON_EVERY == 0)
                violations += [f"failure {counts['failures']}, {where}, {what}: {problem}" for problem in found]
        finally:
            self._failing = counts["failures"] == self._failures or len(violations) >= VIOLATIONS_MAX
        if self._failing:
            raise _Enough

    def _after(self, image: Image, lives_on: bool) -> list[str]:
        write_image(image, self._scratch)
        try:
            with DataDirectory.open(self._scratch) as directory:
                return self._examine(directory, lives_on)
        except Memory3Error as error:
            return [f"{type(error).__name__}: {error}"]
        finally:
            shutil.rmtree(self._scratch)

    def _examine(self, directory: DataDirectory, lives_on: bool) -> list[str]:
        there = {info.name for info in directory.collections()}
        wrong = [
            f"collection {name!r} is {'there' if name in there else 'gone'}"
            for name, exists in self._expected.exists.items()
            if (name in there) not in exists
        ]
        wrong += [f"collection {name!r} was never made" for name in there - self._expected.exists.keys()]
        for name in there & self._expected.exists.keys():
            collection, oracle = directory.collection(name), self._expected.oracles[name].copy()
            wrong += examine(Store.of_collection(collection), oracle, values_may_be_lost=True)
            if lives_on and not wrong:
                for turn in range(3):
                    _change(collection, oracle, random.Random(turn), f"after-{turn}")
                wrong += [f"later: {problem}" for problem in examine(Store.of_collection(collection), oracle, True)]
        return wrong


def _change(collection: Collection, oracle: Oracle, choose: random.Random, version: str) -> None:
    keys = [f"key-{number}" for number in choose.sample(range(KEYS), choose.randint(1, BATCH_MAX))]
    if choose.random() < 0.3:
        with oracle.change(dict.fromkeys(keys, ABSENT)):
            collection.delete(keys)
        return
    with oracle.change(dict.fromkeys(keys, version)):
        collection.upsert([embedded_of(key, version) for key in keys])
    if choose.random() < 0.6:
        (stored,) = collection.get(keys[:1])
        assert stored is not None
        texts = texts_of(stored.key, version)
        for fingerprint in FINGERPRINTS:
            items = [(seq, values_of(fingerprint, seq, text)) for seq, text in zip(stored.memories, texts, strict=True)]
            assert all(collection.put_key_values(fingerprint, items))
            oracle.wrote(fingerprint, [seq for seq, _ in items])
    if choose.random() < 0.2:
        collection.save()
