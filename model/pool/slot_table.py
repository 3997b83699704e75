"""Which memory lies in which slot: least recently used out, pinned while it is read. Knows no tensors."""

from collections import OrderedDict
from collections.abc import Hashable


class SlotTable:
    """Maps keys to slot numbers below `slots`. Not safe between threads; its owner holds a lock."""

    def __init__(self, slots: int) -> None:
        self._free = list(range(slots - 1, -1, -1))
        # Least recently used first.
        self._slots: OrderedDict[Hashable, int] = OrderedDict()
        self._keys: dict[int, Hashable] = {}
        self._pins: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def pinned(self) -> int:
        """How many slots somebody reads."""
        return len(self._pins)

    def pin(self, key: Hashable) -> int | None:
        """The slot of a key, pinned once more; None if the key is not there."""
        slot = self._slots.get(key)
        if slot is not None:
            self._slots.move_to_end(key)
            self._pins[slot] = self._pins.get(slot, 0) + 1
        return slot

    def take(self) -> int | None:
        """A slot that belongs to nobody now, the least recently used one if none is free; None if all are pinned.

        Whoever takes it fills it, and then calls `put` or `give_back`.
        """
        if self._free:
            return self._free.pop()
        for key, slot in self._slots.items():
            if slot not in self._pins:
                self._forget(key)
                return slot
        return None

    def put(self, key: Hashable, slot: int) -> None:
        """Let a slot that was taken be found under a key that is not there yet, pinned once."""
        assert key not in self._slots and slot not in self._keys
        self._slots[key] = slot
        self._keys[slot] = key
        self._pins[slot] = 1

    def give_back(self, slot: int) -> None:
        """Free a slot that was taken and not put."""
        assert slot not in self._keys
        self._free.append(slot)

    def release(self, slot: int) -> None:
        """Undo one pin."""
        self._pins[slot] -= 1
        if not self._pins[slot]:
            del self._pins[slot]

    def _forget(self, key: Hashable) -> None:
        del self._keys[self._slots.pop(key)]
