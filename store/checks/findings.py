"""What a check has counted and found wrong so far, and the ways in which it walks through tables."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias, TypeVar

from pyroaring import BitMap64

from ..disk.environment import Environment, Transaction
from ..disk.seal import Damaged
from ..types import CheckReport

T = TypeVar("T")
Items: TypeAlias = Callable[[Transaction, bytes], Iterator[tuple[bytes, T]]]
"""Yields keys from the given one on, in order, each with something."""

_PROBLEMS_MAX = 1_000
_LOOK_ITEMS = 1_000
_BATCH = 256
_BITMAP_PART = 1 << 14


class Findings:
    """What a check counted and found wrong so far. `look` raises when nobody wants to know any more."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look
        self.documents = 0
        self.memories = 0
        self.key_values = 0
        self.damages: list[Damaged] = []
        self.derived: set[str] = set()
        """Tables that follow from the documents and do not agree with them."""
        self._problems: dict[str, None] = {}
        self._left_out = 0

    def problem(self, sentence: str) -> None:
        """Note a problem; the same one counts once, and those over a limit are only counted."""
        if len(self._problems) < _PROBLEMS_MAX:
            self._problems[sentence] = None
        else:
            self._left_out += 1

    def damage(self, damage: Damaged) -> None:
        self.damages.append(damage)
        self.problem(str(damage))

    def looking(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, with a look now and then at whether the check is still wanted."""
        for number, item in enumerate(items):
            if number % _LOOK_ITEMS == 0:
                self.look()
            yield item

    def bitmap(self, seqs: Iterable[int]) -> BitMap64:
        """Return these seqs as a set, with looks on the way."""
        found, remaining = BitMap64(), self.looking(seqs)
        # In parts, because making a large one at once stops the interpreter for as long as it takes.
        while part := list(islice(remaining, _BITMAP_PART)):
            found |= BitMap64(part)
        return found

    def in_parts(
        self, environment: Environment, items: Items[T], see: Callable[[Transaction, list[tuple[bytes, T]]], None]
    ) -> None:
        """Show all items to `see`, some to a transaction, so that freed pages can be used again meanwhile."""
        start = b""
        while True:
            self.look()
            with environment.reading() as txn:
                batch = list(islice(items(txn, start), _BATCH))
                see(txn, batch)
            if len(batch) < _BATCH:
                return
            following = batch[-1][0] + b"\0"
            if following <= start:
                self.problem(f"keys of {environment.path} are out of order; restore a copy")
                return
            start = following

    def report(self) -> CheckReport:
        problems = tuple(self._problems)
        if self._left_out:
            problems += (f"{self._left_out} further problems are left out",)
        return CheckReport(self.documents, self.memories, self.key_values, problems)
