"""What a caller holds of a generation that the engine runs: its events as they come, and a way to stop it."""

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Self

from ...answers import GenerationEvent


class Mailbox:
    """Where the engine puts the events of one generation, and learns that nobody wants more.

    It holds no reference to the `Generation`, so that one that its caller forgets is collected, and stops.
    """

    def __init__(self) -> None:
        self._items: SimpleQueue[Iterator[GenerationEvent] | BaseException | None] = SimpleQueue()
        self._present: Iterator[GenerationEvent] = iter(())
        self.unwanted = False

    def put(self, event: GenerationEvent) -> None:
        self._items.put(iter((event,)))

    def put_later(self, events: Iterator[GenerationEvent]) -> None:
        """Events that take long to make: the caller makes them, in a thread of its own, when it comes to them."""
        self._items.put(events)

    def end(self, error: BaseException | None = None) -> None:
        """No more events come; `error` is raised at the caller's."""
        self._items.put(error)

    def take(self) -> GenerationEvent:
        """The next event; waits for it.

        Raises:
            StopIteration: there is none any more.
        """
        while not self.unwanted:
            for event in self._present:
                return event
            item = self._items.get()
            if item is None or isinstance(item, BaseException):
                self._items.put(None)
                raise item or StopIteration
            self._present = item
        raise StopIteration


class Generation(Iterator[GenerationEvent]):
    """The events of a generation, in order; `close`, from any thread, stops it and ends the iteration."""

    def __init__(self, mailbox: Mailbox, wake: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._wake = wake

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> GenerationEvent:
        return self._mailbox.take()

    def close(self) -> None:
        """Stop generating; nothing happens if it has ended."""
        if not self._mailbox.unwanted:
            self._mailbox.unwanted = True
            self._mailbox.end()
            self._wake()

    def __del__(self) -> None:
        self.close()
