"""Proof: a server killed at any moment has what it acknowledged, and nothing that it acknowledged as deleted."""

import random
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from memory3.client import Client
from memory3.store.backup.restore import restore
from memory3.store.directory import DataDirectory
from memory3.store.disk.durable import TEMPORARY
from memory3.store.errors import Corrupted, FailedPrecondition, Memory3Error, Unavailable

from .access import Store
from .changing import Changer
from .examine import examine
from .faults import BACKUP, BACKUP_POINTS, POINTS, KillPoint
from .oracle import Moment, Oracle
from .outcome import Outcome
from .processes import processes
from .serving import SHARDS, serve
from .watching import Watching

WRITERS = 3
KEYS = 12
"""Keys of one writer."""
NTH_MAX, NTH_IN_BACKUP_MAX = 12, 4
BACKUP_SHARE = 0.25
"""Of the kills at a point, those at a point of a backup."""
CLUSTERED_SHARE = 0.5
"""Of the lives, those whose server clusters the index of a few vectors."""
LIFE_S = (0.01, 0.4)
"""How long a server lives that is killed at a random time; `POINT_S` is what one gets to come to its point."""
POINT_S = 3.0
START_S = 60.0
OPENING_SHARE = 0.15
"""Kills while the server is still opening what the one before it left."""
UPKEEP_PAUSE_S = 0.02
TOLD_WITHIN_S = 20.0
"""When the last server has told the watch of everything, what has expired meanwhile included."""
VIOLATIONS_MAX = 20
RANDOM = "a random moment"
ENDED = "the server ended by itself; its last words are above"
UNDER_LOAD, IN_BACKUP, OPENING = "under load", "in a backup", "while opening"


def crash_loop(path: Path, kills: int, seed: int = 0, every_point: bool = False) -> Outcome:
    """Kill a server `kills` times while several clients write, and examine what the next one finds, over gRPC.

    Beside the directory `path` a backup is made, again and again. The outcome's places are the points and their files,
    with what the server was doing. With `every_point` it is a violation if there was no kill at one of them.
    """
    outcome = Outcome("crash", "kill -9 of a gRPC server under writing clients, then every answer of the next one")
    loop = _Loop(path, outcome, seed)
    while outcome.counts["kills"] < kills and len(outcome.violations) < VIOLATIONS_MAX:
        loop.one_life()
    loop.end()
    if every_point:
        outcome.violations += [f"there was no kill at this point: {point}" for point in points_spared(outcome)]
    return outcome.done()


def points_spared(outcome: Outcome) -> list[str]:
    """Name the points at which no server was killed, those of a backup apart from the others."""
    killed = {(place.split(": ")[0], when) for place, when in outcome.places}
    aimed = [*((point, UNDER_LOAD) for point in POINTS), *((point, IN_BACKUP) for point in BACKUP_POINTS)]
    return [f"{point}, {when}" for point, when in aimed if (point, when) not in killed]


@dataclass(frozen=True, slots=True)
class _Server:
    """A server in a process of its own; without an address if it died before it served."""

    process: BaseProcess
    address: str
    orders: Connection
    """Takes the point to die at."""
    _deaths: Connection

    def died_on(self) -> str | None:
        """Return the file at whose point it died, None if it lives."""
        ended = self.process.exitcode is not None
        with suppress(EOFError):
            if self._deaths.poll():
                return str(self._deaths.recv())
        if ended:
            raise AssertionError(ENDED)
        return None


class _Loop:
    """The lives of servers on one directory, one after the other, and what outlives them."""

    def __init__(self, path: Path, outcome: Outcome, seed: int) -> None:
        self._path = path
        self._outcome = outcome
        self._choose = random.Random(seed)
        self._oracle = Oracle(SHARDS)
        self._changers = [
            Changer(self._oracle, [f"w{number}-{key}" for key in range(KEYS)], f"{seed} {number}")
            for number in range(WRITERS)
        ]
        self._backup = path.with_name(f"{path.name}-{BACKUP}")
        self._watching = Watching(self._oracle, SHARDS)

    def one_life(self) -> None:
        """Start a server, examine what it found, let clients change it, and kill it."""
        choose, outcome = self._choose, self._outcome
        in_backup = choose.random() < BACKUP_SHARE
        nth = choose.randint(1, NTH_IN_BACKUP_MAX if in_backup else NTH_MAX)
        point = KillPoint(choose.choice(BACKUP_POINTS if in_backup else POINTS), nth, in_backup)
        opening = KillPoint(point.point, choose.randint(1, 3)) if choose.random() < OPENING_SHARE else None
        at_point, life = choose.random() < 0.6, outcome.counts["kills"]
        with self._server(opening) as server:
            if not server.address:
                self._count(point.point, server.died_on(), OPENING)
                return
            with Client(server.address, timeout_s=START_S) as client:
                store = Store.of_client(client)
                with suppress(*([Unavailable] if opening else [])):
                    found = examine(store, self._oracle)
                    outcome.violations += [f"after kill {life}: {problem}" for problem in found]
                keeper = _Keeper(client, self._oracle, self._backup, compacts_first=choose.random() < 0.5)
                callers = [
                    keeper,
                    _Watcher(self._watching, client),
                    *(_Writer(changer, store, f"{life}.{n}") for n, changer in enumerate(self._changers)),
                ]
                if opening is None and at_point:
                    server.orders.send(point)
                for caller in callers:
                    caller.start()
                server.process.join(POINT_S if at_point else choose.uniform(*LIFE_S))
                died_on = server.died_on()
                server.process.kill()
                for caller in callers:
                    caller.join()
                    outcome.violations += caller.violations
        self._count(point.point, died_on, IN_BACKUP if in_backup and opening is None else UNDER_LOAD)
        self._judge_backup(keeper)

    def end(self) -> None:
        """Examine what the last server left."""
        outcome, watching = self._outcome, self._watching
        with self._server(None) as server, Client(server.address) as client:
            store, watcher = Store.of_client(client), _Watcher(watching, client)
            watcher.start()
            outcome.violations += examine(store, self._oracle)
            outcome.violations += _untold(watching, store)
            server.process.kill()
            watcher.join()
        for changer in self._changers:
            outcome.violations += changer.violations
        outcome.violations += watcher.violations + watching.violations
        outcome.counts["changes acknowledged"] = self._oracle.changes
        outcome.counts["changes watched"] = watching.told
        outcome.counts["watches resumed"] = watching.resumed
        outcome.counts["watches that had to list"] = watching.listed

    def _judge_backup(self, keeper: "_Keeper") -> None:
        """What a backup has left is whole and holds what it must, or is refused and in nobody's way."""
        if keeper.moment is None:
            return
        counts, unfinished = self._outcome.counts, self._backup.with_name(self._backup.name + TEMPORARY)
        found: list[str] = []
        counts["compactions"] += keeper.compactions
        if self._backup.exists():
            counts["backups restored"] += 1
            found += self._restored(self._backup, keeper.held or self._oracle.copy(keeper.moment))
            shutil.rmtree(self._backup)
        elif keeper.held is not None:
            found.append("a backup that was reported is not there")
        elif unfinished.exists():
            counts["backups cut off"] += 1
            # Before its rename it may be whole already. What is not stays there, for the next one to remove.
            with suppress(FailedPrecondition, Corrupted):
                found += self._restored(unfinished, self._oracle.copy(keeper.moment))
                shutil.rmtree(unfinished)
        self._outcome.violations += [f"backup in life {counts['kills'] - 1}: {problem}" for problem in found]

    def _restored(self, backup: Path, oracle: Oracle) -> list[str]:
        place = self._path.with_name(f"{self._path.name}-restored")
        try:
            restore(backup, place)
            with DataDirectory.open(place) as directory:
                # The first life may have ended before there was a collection.
                if not directory.collections():
                    return oracle.judge({})
                return examine(Store.of_collection(directory.collection("default")), oracle)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _count(self, point: str, died_on: str | None, when: str) -> None:
        self._outcome.counts["kills"] += 1
        if died_on is None:
            self._outcome.places[RANDOM, UNDER_LOAD] += 1
        else:
            self._outcome.places[f"{point}: {died_on}", when] += 1

    @contextmanager
    def _server(self, opening: KillPoint | None) -> Iterator[_Server]:
        """A server on the directory, killed at the end if it lives until then."""
        context = processes()
        (ours, theirs), (deaths, telling) = context.Pipe(), context.Pipe(duplex=False)
        clustered = self._choose.random() < CLUSTERED_SHARE
        process = context.Process(target=serve, args=(self._path, opening, clustered, theirs, telling), daemon=True)
        process.start()
        theirs.close()
        telling.close()
        address = ""
        try:
            with suppress(EOFError):
                if not ours.poll(START_S):
                    raise AssertionError(f"no server after {START_S:.0f} s")
                address = ours.recv()
            if not address:
                process.join()
            if not address and opening is None:
                raise AssertionError(ENDED)
            yield _Server(process, address, ours, deaths)
        finally:
            process.kill()
            process.join()
            ours.close()
            deaths.close()


def _untold(watching: Watching, store: Store) -> list[str]:
    """What the watch was not told of, though it was given the time for it."""
    until = time.monotonic() + TOLD_WITHIN_S
    while found := watching.judge({document.key: document.version for document in store.documents()}):
        if time.monotonic() > until:
            break
        time.sleep(UPKEEP_PAUSE_S)
    return [f"watch: {problem}" for problem in found]


class _Caller(ABC, threading.Thread):
    """A client that works until the server is gone; `violations` are calls that failed otherwise."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.violations: list[str] = []

    def run(self) -> None:
        try:
            while True:
                self.work()
        except Unavailable:
            return
        except Memory3Error as error:
            self.violations.append(f"a call failed otherwise than by the server's end: {error!r}")

    @abstractmethod
    def work(self) -> None:
        """One turn of what it does."""


class _Writer(_Caller):
    """Changes keys of its own."""

    def __init__(self, changer: Changer, store: Store, name: str) -> None:
        super().__init__()
        self._changer = changer
        self._store = store
        self._name = name
        self._turn = 0

    def work(self) -> None:
        self._changer.change(self._store, f"{self._name}.{self._turn}")
        self._turn += 1


class _Watcher(_Caller):
    """Watches all changes."""

    def __init__(self, watching: Watching, client: Client) -> None:
        super().__init__()
        self._watching = watching
        self._client = client

    def work(self) -> None:
        self._watching.follow(self._client)


class _Keeper(_Caller):
    """Compacts, and backs up once: `moment` is when that began, `held` what it must hold once it was reported whole."""

    def __init__(self, client: Client, oracle: Oracle, backup: Path, compacts_first: bool) -> None:
        super().__init__()
        self.moment: Moment | None = None
        self.held: Oracle | None = None
        self.compactions = 0
        self._client = client
        self._oracle = oracle
        self._backup = backup
        self._compacts = compacts_first

    def work(self) -> None:
        time.sleep(UPKEEP_PAUSE_S)
        if self._compacts or self.moment is not None:
            self._client.compact()
            self.compactions += 1
        if self.moment is None:
            self.moment = self._oracle.moment()
            self._client.backup(self._backup.absolute())
            self.held = self._oracle.copy(self.moment)
