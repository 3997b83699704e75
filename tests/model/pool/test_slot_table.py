"""The slot table equals a simple model of it under any sequence of calls, and never hands out what is read."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from memory3.model.pool.slot_table import SlotTable

KEYS = st.integers(0, 9)


class Slots(RuleBasedStateMachine):
    """Keys in the order of their use, the slot of each, and how often each is pinned."""

    @initialize(slots=st.integers(1, 6))
    def begin(self, slots: int) -> None:
        self.count = slots
        self.table = SlotTable(slots)
        self.order: list[int] = []
        self.slots: dict[int, int] = {}
        self.pins: dict[int, int] = {}

    @rule(key=KEYS)
    def load(self, key: int) -> None:
        """What a load of one memory does: pin what is there, else take a slot and put it there."""
        slot = self.table.pin(key)
        assert (slot is None) == (key not in self.slots)
        if slot is None:
            slot = self.table.take()
            if len(self.pins) == self.count:
                assert slot is None
                return
            assert slot is not None and slot not in self.pins
            if len(self.slots) == self.count:
                oldest = next(key for key in self.order if self.slots[key] not in self.pins)
                assert self.slots.pop(oldest) == slot
                self.order.remove(oldest)
            assert slot not in self.slots.values()
            self.table.put(key, slot)
            self.slots[key] = slot
        assert slot == self.slots[key]
        self.pins[slot] = self.pins.get(slot, 0) + 1
        self.order = [other for other in self.order if other != key] + [key]

    @rule(key=KEYS)
    def release(self, key: int) -> None:
        slot = self.slots.get(key, -1)
        if slot in self.pins:
            self.table.release(slot)
            self.pins[slot] -= 1
            if not self.pins[slot]:
                del self.pins[slot]

    @rule()
    def take_and_give_back(self) -> None:
        """A load that fails behind the choice of a slot."""
        slot = self.table.take()
        assert (slot is None) == (len(self.pins) == self.count)
        if slot is not None:
            if len(self.slots) == self.count:
                gone = next(key for key in self.order if self.slots[key] not in self.pins)
                del self.slots[gone]
                self.order.remove(gone)
            self.table.give_back(slot)

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "table"):
            assert (len(self.table), self.table.pinned) == (len(self.slots), len(self.pins))


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
