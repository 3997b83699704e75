"""A server for the crash loop: the real one, over gRPC, on a real directory; only texts are embedded by their names."""

import logging
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from memory3.cluster.embedded import Embedded
from memory3.cluster.models import Models
from memory3.cluster.server import Server
from memory3.store import limits
from memory3.store.directory import DataDirectory
from memory3.store.errors import Memory3Error

from .content import DIMENSION, EMBEDDER, split, vectors_of
from .faults import KillPoint, kill_at

SHARDS = 3
TIDY_EVERY_S = 0.05
SNAPSHOT_CHANGES_MIN = 20
CHANGES_KEPT = 30
REQUESTS_KEPT = 40
"""Small, so that the index is saved, and the log and the requests are trimmed, many times in a short life."""
EXACT_MAX = 6
"""Vectors of a shard over which a server that is `clustered` clusters its index."""


class NameModels(Models):
    """Embeds texts made by `content` without a network, so that the loop's time goes to the store."""

    def __init__(self) -> None:
        super().__init__(EMBEDDER)

    @property
    def embedder(self) -> Any:
        return self

    @property
    def language_model(self) -> Any:
        return self

    @property
    def dimension(self) -> int:
        return DIMENSION

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return vectors_of(texts)

    def split(self, text: str) -> list[str]:
        return split(text)


def serve(path: Path, opening: KillPoint | None, clustered: bool, parent: Connection, deaths: Connection) -> None:
    """Serve `path`, tell the parent the address, and die at the point that the parent names (`opening`: already then).

    `deaths` is told on what file that was. Runs in a process of its own and never returns by itself.
    """
    limits.SNAPSHOT_CHANGES_MIN, limits.CHANGES_KEPT = SNAPSHOT_CHANGES_MIN, CHANGES_KEPT
    limits.REQUESTS_KEPT = REQUESTS_KEPT
    if clustered:
        limits.EXACT_MAX = EXACT_MAX
        # One that is lost is built beside calls, as that of a large shard is.
        limits.BUILT_AT_OPENING_MAX = -1
    # An index that has to be built again is no news here.
    logging.disable(logging.WARNING)
    if opening is not None:
        kill_at(opening, deaths.send)
    memory = Embedded(path, shards=SHARDS)
    memory.models = NameModels()
    collection = memory.opened("default")
    with Server(memory, write_in_background=False) as server:
        parent.send(server.address)
        while True:
            if parent.poll(TIDY_EVERY_S):
                kill: KillPoint = parent.recv()
                kill_at(kill, deaths.send)
            _leniently(collection.save)
            _leniently(collection.sweep)


def _leniently(work: Any) -> None:
    try:
        work()
    except Memory3Error:
        time.sleep(TIDY_EVERY_S)


def die_reading(path: Path) -> None:
    """Die as by `kill -9` within a read of the records."""
    directory = DataDirectory.open(path)
    collection = directory.create_collection("default", EMBEDDER, DIMENSION)
    collection.count()
    with collection._shards[0]._records.environment.reading():
        os.kill(os.getpid(), signal.SIGKILL)
