"""Proof: whatever the power leaves on the disk at any point, the store opens it and has all that it acknowledged."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from memory3.store import collection as collections
from memory3.store import limits
from memory3.store.backup.back_up import back_up
from memory3.store.backup.restore import restore
from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.disk import points
from memory3.store.disk.durable import sync_directory
from memory3.store.errors import Memory3Error
from memory3.store.shard import state
from memory3.store.shard.derived import at_once
from memory3.store.shard.maintenance import Maintenance

from .access import FilterMapping, Store
from .changing import Changer
from .content import DIMENSION, EMBEDDER, FILTERS
from .disk import Disk, Image, write_image
from .examine import examine
from .faults import BACKUP, folder_in_memory, syncs_watched, watched
from .oracle import Moment, Oracle
from .outcome import Outcome

MAIN, PASSING = "main", "passing"
"""A collection that stays, and one that is dropped and made again."""
SHARDS = {MAIN: 3, PASSING: 1}
KEYS = [f"key-{number}" for number in range(12)]
LIVES_ON_EVERY = 3
"""Of so many disks one is also written to after the failure."""
VIOLATIONS_MAX = 20
UPKEEP_SHARE = 0.25
BACKUP_SHARE = 0.25
"""Of the upkeep, that which makes a backup."""
FILTERS_ASKED = 2
"""Of the filters, those that each disk is asked with."""
SMALL = {"SNAPSHOT_CHANGES_MIN": 6, "CHANGES_KEPT": 4, "REQUESTS_KEPT": 6, "EXACT_MAX": 5}
"""Limits, so that everything that happens to a large collection happens to this one."""
START = 1.8e9
"""Where the clock begins that says what has expired."""
TURN_S = 0.5
DATA = "data"


class _Enough(Exception):
    """The failures asked for have been tried."""


class _Serially:
    """Shards are asked one after the other, so that failures come in one order."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *arguments: object) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(call(*arguments))
        return future

    def shutdown(self) -> None:
        pass


@dataclass
class _Expected:
    """What must be found: a record of each collection, and whether it may, or may not, be there."""

    oracles: dict[str, Oracle] = field(default_factory=dict)
    changers: dict[str, Changer] = field(default_factory=dict)
    exists: dict[str, set[bool]] = field(default_factory=dict)

    @contextmanager
    def change(self, name: str, exists: bool, clock: Callable[[], float]) -> Iterator[None]:
        """Within it a collection is made or dropped."""
        if exists:
            self.oracles[name] = Oracle(SHARDS[name], clock)
            self.changers[name] = Changer(self.oracles[name], KEYS, name)
        self.exists[name] = {exists, not exists}
        yield
        self.exists[name] = {exists}


@dataclass
class _Backup:
    """A backup of the collection that stays: since when it is made, and what it holds once it was reported whole."""

    moment: Moment
    held: Oracle | None = None


def power_failures(failures: int, every: int = 1, seed: int = 0) -> Outcome:
    """Let the power fail `failures` times, at every `every`th durable act of the work, each time on several disks."""
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        return _power_failures(Path(folder), failures, every, seed)


def _power_failures(folder: Path, failures: int, every: int, seed: int) -> Outcome:
    outcome = Outcome("power", "power failure at every durable act, on disks that hold more or less of what was new")
    work = _Work(folder, failures, every, outcome, random.Random(seed))
    before = {name: getattr(limits, name) for name in SMALL}
    _limit(SMALL)
    try:
        with (
            # Upkeep is done between changes, by the thread that makes them.
            patch.object(Maintenance, "wake", lambda _: None),
            patch.object(collections, "ThreadPoolExecutor", _Serially),
            patch.object(state, "time", SimpleNamespace(time=work.clock)),
            watched(work.point),
            syncs_watched(work.before_sync, work.after_sync),
        ):
            work.run()
    except _Enough:
        pass
    finally:
        _limit(before)
    return outcome.done()


def _limit(values: dict[str, int]) -> None:
    for name, value in values.items():
        setattr(limits, name, value)


def _keep_up(collection: Collection) -> None:
    """What a shard's maintenance thread does when it is due."""
    for shard in collection._shards.values():
        if shard._derived.clustering_is_due():
            shard._derived.cluster(shard._writer, at_once)
        if shard._derived.save_is_due():
            shard._derived.save(at_once)
    collection.sweep()


class _Work:
    """Changes of every kind on one data directory, and the failures that come in between."""

    def __init__(self, folder: Path, failures: int, every: int, outcome: Outcome, choose: random.Random) -> None:
        self._root = folder / "disk"
        self._root.mkdir()
        self._data = self._root / DATA
        self._scratch = folder / "after"
        self._failures = failures
        self._every = every
        self._acts = 0
        self._outcome = outcome
        self._choose = choose
        self._disk = Disk(self._root)
        self._expected = _Expected()
        self._backup: _Backup | None = None
        self._now = START
        self._failing = False

    def clock(self) -> float:
        return self._now

    def run(self) -> None:
        turn = 0
        while True:
            with DataDirectory.open(self._data) as directory:
                for _ in range(self._choose.randint(1, 12)):
                    turn += 1
                    self._now += TURN_S
                    name = PASSING if self._choose.random() < 0.2 else MAIN
                    self._turn(directory, name, f"{turn}")

    def _turn(self, directory: DataDirectory, name: str, version: str) -> None:
        expected, choose = self._expected, self._choose
        if True not in expected.exists.get(name, {False}):
            with expected.change(name, True, self.clock):
                directory.create_collection(name, EMBEDDER, DIMENSION, SHARDS[name])
        if name == PASSING and choose.random() < 0.4:
            with expected.change(name, False, self.clock):
                directory.drop_collection(name)
            return
        collection = directory.collection(name)
        expected.changers[name].change(Store.of_collection(collection), version)
        if choose.random() >= UPKEEP_SHARE:
            return
        if choose.random() < BACKUP_SHARE:
            self._back_up(directory)
        else:
            upkeep: list[Callable[[Collection], object]] = [_keep_up, Collection.save, Collection.compact]
            choose.choice(upkeep)(collection)

    def _back_up(self, directory: DataDirectory) -> None:
        """Make a backup in the place of the last one."""
        if True not in self._expected.exists.get(MAIN, set()):
            return
        target = self._root / BACKUP
        if target.exists():
            self._backup = None
            shutil.rmtree(target)
            sync_directory(self._root)
        oracle = self._expected.oracles[MAIN]
        self._backup = _Backup(oracle.moment())
        back_up(directory, target)
        self._backup.held = oracle.copy(self._backup.moment)

    def point(self, point: str, path: Path) -> None:
        if point == points.COPIED:
            # By LMDB, whose own syncs are not seen.
            self.after_sync(path)
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
        self._acts += 1
        if self._acts % self._every:
            if committed is not None:
                self._disk.commit(committed)
            return
        self._failing = True
        counts, violations = self._outcome.counts, self._outcome.violations
        try:
            counts["failures"] += 1
            self._outcome.places[kind, "failure"] += 1
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
            with DataDirectory.open(self._scratch / DATA) as directory:
                return self._examine(directory, lives_on) + self._examine_backup(directory, lives_on)
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
            store = Store.of_collection(collection)
            wrong += examine(store, oracle, self._filters(), values_may_be_lost=True)
            if lives_on and not wrong:
                changer = self._expected.changers[name].copy(oracle, self._outcome.counts["disks"])
                for turn in range(3):
                    changer.change(store, f"after-{turn}")
                _keep_up(collection)
                wrong += [
                    f"later: {one}" for one in [*changer.violations, *examine(store, oracle, self._filters(), True)]
                ]
        return wrong

    def _examine_backup(self, directory: DataDirectory, lives_on: bool) -> list[str]:
        """A backup that was reported is whole; one that was not is whole, or not there and in nobody's way."""
        made, target = self._backup, self._scratch / BACKUP
        if made is None:
            return []
        if not target.exists():
            if made.held is not None:
                return ["a backup that was reported is not there"]
            if lives_on:
                back_up(directory, target)
            return []
        restore(target, self._scratch / "restored")
        with DataDirectory.open(self._scratch / "restored") as restored:
            oracle = made.held.copy() if made.held else self._expected.oracles[MAIN].copy(made.moment)
            found = examine(Store.of_collection(restored.collection(MAIN)), oracle, self._filters())
        return [f"the backup: {problem}" for problem in found]

    def _filters(self) -> Sequence[FilterMapping]:
        return self._choose.sample(FILTERS, FILTERS_ASKED)
