"""What a store may answer, from what it acknowledged: a client's own record."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

ABSENT = ""
"""The version of a document that is not there."""


class Oracle:
    """The versions that may stand under each key; safe to share between threads that write different keys.

    A change that began may stand from then on, and nothing else may once it was acknowledged. One that was cut off
    leaves both open until somebody looks (`settle`), all of its keys alike.
    """

    def __init__(self) -> None:
        self.changes = 0
        self.forgotten: set[int] = set()
        self._mutex = threading.Lock()
        self._allowed: dict[str, set[str]] = {}
        self._cut_off: list[dict[str, str]] = []
        self._values: set[tuple[str, int]] = set()
        self._live: dict[str, tuple[int, ...]] = {}

    @property
    def keys(self) -> list[str]:
        with self._mutex:
            return sorted(self._allowed)

    @contextmanager
    def change(self, versions: Mapping[str, str]) -> Iterator[None]:
        """Within it these keys are changed to these versions in one call; leaving it without error acknowledges."""
        with self._mutex:
            for earlier in self._cut_off:
                for key in versions:
                    earlier.pop(key, None)
            # Only what this call changes tells whether it stands.
            batch = {key: name for key, name in versions.items() if name not in self._allowed.get(key, {ABSENT})}
            self._cut_off.append(batch)
            for key, version in versions.items():
                self._allowed.setdefault(key, {ABSENT}).add(version)
        yield
        with self._mutex:
            self._cut_off = [other for other in self._cut_off if other is not batch]
            self.changes += 1
            for key, version in versions.items():
                self._allowed[key] = {version}

    def copy(self) -> "Oracle":
        """An oracle that goes its own way from here."""
        with self._mutex:
            other = Oracle()
            other.changes, other.forgotten = self.changes, set(self.forgotten)
            other._allowed = {key: set(versions) for key, versions in self._allowed.items()}
            other._cut_off = [dict(batch) for batch in self._cut_off]
            other._values, other._live = set(self._values), dict(self._live)
            return other

    def wrote(self, fingerprint: str, seqs: list[int]) -> None:
        """Key-values of these memories were acknowledged."""
        with self._mutex:
            self._values.update((fingerprint, seq) for seq in seqs)

    def has_values(self, fingerprint: str, seq: int) -> bool:
        with self._mutex:
            return (fingerprint, seq) in self._values

    def judge(self, found: Mapping[str, str]) -> list[str]:
        """Say what of the versions found must not be."""
        with self._mutex:
            wrong = [
                f"{key!r} is {found.get(key, ABSENT) or 'absent'!r}, acknowledged is one of {sorted(allowed)}"
                for key, allowed in self._allowed.items()
                if found.get(key, ABSENT) not in allowed
            ]
            wrong += [f"{key!r} was never written" for key in found.keys() - self._allowed.keys()]
            for batch in self._cut_off:
                stands = {found.get(key, ABSENT) == version for key, version in batch.items()}
                if len(stands) > 1:
                    wrong.append(f"of a call that was cut off a part stands: {batch}")
            return wrong

    def settle(self, found: Mapping[str, str], seqs: Mapping[str, tuple[int, ...]]) -> None:
        """Take what was found as what stands, with the seqs of its memories, after `judge` found nothing wrong."""
        with self._mutex:
            self._allowed = {key: {found.get(key, ABSENT)} for key in self._allowed}
            self._cut_off.clear()
            before = {seq for of_key in self._live.values() for seq in of_key}
            self._live = dict(seqs)
            live = {seq for of_key in seqs.values() for seq in of_key}
            self.forgotten |= before - live
            self._values = {place for place in self._values if place[1] in live}
