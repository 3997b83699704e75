"""Key-values as they are stored, kept in RAM: bounded in bytes, least recently used out."""

from collections import OrderedDict
from collections.abc import Hashable


class CodeCache:
    """Coded key-values by key. Not safe between threads; its owner holds a lock."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._values: OrderedDict[Hashable, bytes] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> bytes | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep a value, and let go of the least recently used ones until all fit; one too large is not kept."""
        self.drop(key)
        if len(value) > self._bytes_max:
            return
        self._values[key] = value
        self.bytes += len(value)
        while self.bytes > self._bytes_max:
            _, oldest = self._values.popitem(last=False)
            self.bytes -= len(oldest)

    def drop(self, key: Hashable) -> None:
        """Forget a key, if it is there."""
        value = self._values.pop(key, None)
        if value is not None:
            self.bytes -= len(value)
