"""What the benchmark asks of a store: one small protocol that each file of this folder fits to one library.

`D` embedding size, `K` results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""Shape (D,), float32, of length one: inner product and cosine are the same."""


class Unsupported(Exception):
    """The store does not offer what is measured; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is stored under a key: a vector, its key-values (empty where it has none), and two fields to filter by.

    `text` is stored by Memory3 alone, which always keeps the text; the others keep what they are asked for.
    """

    key: int
    text: str
    vector: Vector
    key_values: bytes
    percent: int
    """0 to 99, each on one item in a hundred."""

    @property
    def tenth(self) -> int:
        """0 to 9, each on one item in ten."""
        return self.percent % 10


@dataclass(frozen=True, slots=True)
class Where:
    """A filter: `field`, "percent" or "tenth", equals `value`."""

    field: str
    value: int


@dataclass(frozen=True, slots=True)
class Found:
    """One result; `key` is None where only key-values come back (the bare gRPC server)."""

    key: int | None
    key_values: bytes


class Searcher(Protocol):
    """What answers a recall: a store in process, or a connection to one."""

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> Sequence[Found]:
        """The K nearest with their key-values, best first.

        Raises:
            Unsupported: it cannot filter.
        """
        ...

    def set_effort(self, effort: int) -> None:
        """Search as hard as one of the peer's `efforts`; nothing where search is exact."""
        ...

    def close(self) -> None: ...


class Store(Searcher, Protocol):
    """A store, open. Any number of threads may call it."""

    def load(self, items: Sequence[Item]) -> None:
        """Store a part of the first load, in the way that the store advises for many items."""
        ...

    def settle(self) -> None:
        """Do what the store advises after many changes: build the index, merge, clean up. Nothing where it needs none.

        What was loaded is durable once this returns.
        """
        ...

    def upsert(self, items: Sequence[Item]) -> None:
        """Store items in one call, each in the place of what stood under its key; durable when it returns."""
        ...

    def delete(self, keys: Sequence[int]) -> None:
        """Forget items; durable when it returns."""
        ...

    def processes(self) -> Sequence[int]:
        """Processes besides this one that hold the store."""
        ...


class Serving(Protocol):
    """A server that runs until it is stopped."""

    address: str

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """One store of the comparison.

    `open` takes a directory and the number of items that it will hold; what is not there is made. `serve` and
    `connect` are for stores that have a server of their own; the others stand behind the bare gRPC server.
    """

    title: str
    packages: tuple[str, ...]
    open: Callable[[Path, int], Store]
    index: str
    """Kind of index and its settings."""
    durable: str
    """What an acknowledged change survives, and by what setting."""
    efforts: tuple[int, ...] = ()
    """What approximate search can be told, least first, and `effort_name` how the library calls it."""
    effort_name: str = ""
    transport: str = "bare gRPC"
    serve: Callable[[Path, int, int], Serving] | None = None
    """Takes the directory, the number of items and the effort."""
    connect: Callable[[str, int], Searcher] | None = None
    """Takes the address and the effort."""
    floor: bool = False
    """Libraries side by side, not a store: a lower bound."""
