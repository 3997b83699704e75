"""Who is next: first come, first served within an owner, and one of each owner in turn."""

from collections import OrderedDict, deque
from itertools import islice, zip_longest
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by owner. Not safe between threads; its owner holds a lock."""

    def __init__(self) -> None:
        # The owner whose turn it is comes first.
        self._items: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, owner: str, item: T) -> None:
        self._items.setdefault(owner, deque()).append(item)
        self._count += 1

    def peek(self) -> T | None:
        """The next item, left where it is."""
        return next(iter(self._items.values()))[0] if self._items else None

    def first(self, count: int) -> list[T]:
        """Up to `count` items in the order in which they will be next, left where they are."""
        turns = zip_longest(*self._items.values())
        return list(islice((item for turn in turns for item in turn if item is not None), count))

    def pop(self) -> T:
        """Take the next item out; its owner's turn comes again after all others'."""
        owner, items = next(iter(self._items.items()))
        item = items.popleft()
        self._count -= 1
        if items:
            self._items.move_to_end(owner)
        else:
            del self._items[owner]
        return item

    def remove(self, unwanted: list[T]) -> None:
        """Take out items wherever they stand."""
        for owner, items in list(self._items.items()):
            kept = deque(item for item in items if item not in unwanted)
            self._count -= len(items) - len(kept)
            if kept:
                self._items[owner] = kept
            else:
                del self._items[owner]

    def items(self) -> list[T]:
        """All items, in no order that matters."""
        return [item for items in self._items.values() for item in items]
