"""What a check looks at."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..index.vector_index import VectorIndex
from ..key_values import KeyValues
from ..records import Records


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a shard; `writer` is the lock that all hold who change them."""

    records: Records
    key_values: KeyValues
    index: VectorIndex
    writer: AbstractContextManager[object]
