"""Following the changes of a collection's shards."""

from collections.abc import Callable, Iterator, Sequence

from ..changes import Batch
from ..store.collection import Collection
from ..store.errors import InvalidArgument
from ..store.seqs import shard_of_seq
from ..store.types import Change

LOOK_S = 0.2
"""Between two looks at whether the caller still waits."""
BATCH_CHANGES = 1_000


def watch(collection: Collection, after: Sequence[int] | None, check_alive: Callable[[], None]) -> Iterator[Batch]:
    """Yield changes batch by batch, without end; the first batch is empty and tells the positions.

    `after` holds a seq of each shard to be watched; None watches all of them from now on. `check_alive` ends the watch
    by raising.

    Raises:
        FailedPrecondition: the log does not reach back so far.
        InvalidArgument: two of the seqs are of one shard, or one is of none.
    """
    positions = list(collection.positions() if after is None else after)
    shards = [shard_of_seq(seq) for seq in positions]
    if len(set(shards)) != len(shards):
        raise InvalidArgument(f"of the seqs {positions} two are of one shard; give one of each")
    yield [], tuple(positions)
    while True:
        check_alive()
        changes: list[Change] = []
        for place, position in enumerate(positions):
            found = collection.changes(position, BATCH_CHANGES)
            changes += found
            if found:
                positions[place] = found[-1].seq
        if changes:
            yield changes, tuple(positions)
        else:
            collection.wait(positions, LOOK_S)
