"""A thread that warms cold memories while nothing else wants the model."""

import logging
import threading

from ..store.errors import InvalidArgument, Memory3Error
from .activity import Activity
from .embedded import Embedded
from .writing import cold_batches, write_memories

_log = logging.getLogger(__name__)

LOOK_S = 0.2
PAUSE_S = 5.0
SLICE_MEMORIES = 4
"""Written at a time, so that a question that arrives waits for little."""


class BackgroundWriter:
    """Writes the cold memories of every collection that changed, whenever no call has run for a moment.

    It may die at any point: what it has not stored stays cold, and is written when it is first read.
    """

    def __init__(self, memory: Embedded, activity: Activity) -> None:
        self._memory = memory
        self._activity = activity
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory3-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the slice under way and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        seen: dict[str, tuple[int, ...]] = {}
        while not self._stopping.wait(LOOK_S):
            try:
                went_well = self._warm_all(seen)
            except Exception as error:
                _tell("the list of collections", error)
                went_well = False
            if not went_well:
                self._stopping.wait(PAUSE_S)

    def _warm_all(self, seen: dict[str, tuple[int, ...]]) -> bool:
        """Go once through the collections; say whether all of them went well."""
        went_well = True
        for info in self._memory.list_collections():
            try:
                self._warm(info.name, seen)
            except Exception as error:
                # One that is broken must not keep those behind it cold.
                _tell(f"collection {info.name!r}", error)
                went_well = False
        return went_well

    def _warm(self, name: str, seen: dict[str, tuple[int, ...]]) -> None:
        collection = self._memory.opened(name)
        positions = collection.positions()
        # Without room others would have to make some. What is read is written when it is read.
        if seen.get(name) == positions or not collection.has_room_for_key_values():
            return
        model = self._memory.models.language_model
        for texts in cold_batches(collection, model.fingerprint, None, SLICE_MEMORIES):
            if self._stopping.is_set() or not self._activity.quiet_for(LOOK_S):
                return
            if not collection.has_room_for_key_values():
                return
            try:
                write_memories(collection, model, texts)
            except InvalidArgument as error:
                # A text in which this model's tokenizer sees nothing. They stay cold, the next are tried.
                _log.warning("some memories cannot be written by model %s: %s", model.name, error)
        seen[name] = positions


def _tell(of: str, error: Exception) -> None:
    """Log why writing failed; the thread goes on, or memories would stay cold until the server starts again."""
    if isinstance(error, Memory3Error):
        # A collection dropped between listing and writing, a full disk: nothing is lost, it is looked at again later.
        _log.warning("background writing of %s pauses: %s", of, error)
    else:
        _log.error("background writing of %s failed and pauses", of, exc_info=error)
