"""Proof: a server killed at any moment has what it acknowledged, and nothing that it acknowledged as deleted."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from memory3.client import Client
from memory3.store.errors import Memory3Error, Unavailable

from .content import FINGERPRINTS, document_of, texts_of, values_of
from .examine import Store, examine
from .faults import POINTS, KillPoint
from .oracle import ABSENT, Oracle
from .outcome import Outcome
from .processes import processes
from .serving import serve

WRITERS = 3
KEYS = 12
"""Keys of one writer."""
BATCH_MAX = 3
DELETE_SHARE = 0.3
VALUES_SHARE = 0.6
NTH_MAX = 12
LIFE_S = (0.01, 0.25)
"""How long a server lives that is killed at a random time; `POINT_S` is what one gets to come to its point."""
POINT_S = 3.0
START_S = 60.0
OPENING_SHARE = 0.15
"""Kills while the server is still opening what the one before it left."""
VIOLATIONS_MAX = 20


def crash_loop(path: Path, kills: int, seed: int = 0) -> Outcome:
    """Kill a server `kills` times while several clients write, and examine what the next one finds, over gRPC."""
    outcome = Outcome("crash", "kill -9 of a gRPC server under writing clients, then every answer of the next one")
    oracle = Oracle()
    choose = random.Random(seed)
    while outcome.counts["kills"] < kills and len(outcome.violations) < VIOLATIONS_MAX:
        _one_life(path, oracle, choose, outcome)
    with _server(path, None) as (_, address, _), Client(address) as client:
        outcome.violations += examine(Store.of_client(client), oracle)
    outcome.counts["changes acknowledged"] = oracle.changes
    return outcome.done()


def _one_life(path: Path, oracle: Oracle, choose: random.Random, outcome: Outcome) -> None:
    point = KillPoint(choose.choice(POINTS), choose.randint(1, NTH_MAX))
    opening = KillPoint(point.point, choose.randint(1, 3)) if choose.random() < OPENING_SHARE else None
    at_point = choose.random() < 0.6
    life = outcome.counts["kills"]
    with _server(path, opening) as (process, address, to_server):
        if not address:
            _count(outcome, f"{opening.point if opening else 'unasked'}, while opening")
            return
        with Client(address, timeout_s=START_S) as client:
            with suppress(*([Unavailable] if opening else [])):
                found = examine(Store.of_client(client), oracle)
                outcome.violations += [f"after kill {life}: {problem}" for problem in found]
            writers = [_Writer(client, oracle, life, number, choose.random()) for number in range(WRITERS)]
            if opening is None and at_point:
                to_server.send(point)
            for writer in writers:
                writer.start()
            process.join(POINT_S if at_point else choose.uniform(*LIFE_S))
            died = process.exitcode is not None
            process.kill()
            for writer in writers:
                writer.join()
                outcome.violations += writer.violations
    _count(outcome, (opening or point).point if died else "a random moment")


def _count(outcome: Outcome, place: str) -> None:
    outcome.counts["kills"] += 1
    outcome.places["kill", place] += 1


@contextmanager
def _server(path: Path, opening: KillPoint | None) -> Iterator[tuple[BaseProcess, str, Connection]]:
    """A server on `path`, killed at the end if it lives until then; without an address if it died before."""
    context = processes()
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(path, opening, theirs), daemon=True)
    process.start()
    theirs.close()
    address = ""
    try:
        with suppress(EOFError):
            if not ours.poll(START_S):
                raise AssertionError(f"no server after {START_S:.0f} s")
            address = ours.recv()
        if not address and opening is None:
            raise AssertionError("the server ended by itself; its last words are above")
        yield process, address, ours
    finally:
        process.kill()
        process.join()
        ours.close()


class _Writer(threading.Thread):
    """A client that changes keys of its own until the server is gone, and tells the oracle what was acknowledged."""

    def __init__(self, client: Client, oracle: Oracle, life: int, number: int, seed: float) -> None:
        super().__init__(daemon=True)
        self.violations: list[str] = []
        self._client = client
        self._oracle = oracle
        self._name = f"{life}.{number}"
        self._keys = [f"w{number}-{key}" for key in range(KEYS)]
        self._choose = random.Random(seed)

    def run(self) -> None:
        turn = 0
        try:
            while True:
                self._change(f"{self._name}.{turn}")
                turn += 1
        except Unavailable:
            return
        except Memory3Error as error:
            self.violations.append(f"a call failed otherwise than by the server's end: {error!r}")

    def _change(self, version: str) -> None:
        keys = self._choose.sample(self._keys, self._choose.randint(1, BATCH_MAX))
        if self._choose.random() < DELETE_SHARE:
            with self._oracle.change(dict.fromkeys(keys, ABSENT)):
                self._client.delete(keys)
            return
        with self._oracle.change(dict.fromkeys(keys, version)):
            self._client.upsert([document_of(key, version) for key in keys])
        if self._choose.random() < VALUES_SHARE:
            self._write_values(keys[0], version)

    def _write_values(self, key: str, version: str) -> None:
        stored = self._client.get(key)
        if stored is None:
            self.violations.append(f"{key!r} of version {version!r} is absent after its upsert was acknowledged")
            return
        for fingerprint in FINGERPRINTS:
            texts = zip(stored.memories, texts_of(key, version), strict=True)
            values = {seq: values_of(fingerprint, seq, text) for seq, text in texts}
            if self._client.put_key_values(fingerprint, values) != len(values):
                self.violations.append(f"key-values of {key!r} were not taken, though it lives")
            self._oracle.wrote(fingerprint, list(values))
