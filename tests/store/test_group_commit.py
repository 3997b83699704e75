import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.store.disk import points
from memory3.store.disk.environment import Environment, Table, WriteTransaction
from memory3.store.errors import Aborted, ResourceExhausted
from memory3.store.shard.group_commit import GroupCommit

CALLERS = 12


class Rig:
    """A table with a group commit, whose lock the test can hold so that callers gather behind it."""

    def __init__(self, path: Path, map_bytes: int = 1 << 26) -> None:
        self.environment = Environment.create(path / "environment", map_bytes, durable=True)
        self.table: Table[bytes] = self.environment.table("table", bytes, bytes)
        self.lock = threading.Lock()
        self.told = 0
        self.commits = GroupCommit(self.environment, self.lock, self._committed)

    def _committed(self) -> None:
        self.told += 1

    def put(self, key: bytes, value: bytes = b"value", size: int = 1) -> None:
        self.commits.submit(lambda txn: self.table.put(txn, key, value), size)

    def keys(self) -> list[bytes]:
        with self.environment.reading() as txn:
            return list(self.table.keys(txn))

    def together(self, *callers: threading.Thread) -> None:
        """Let these callers wait at the same time, then go on."""
        with self.lock:
            for caller in callers:
                caller.start()
            while len(self.commits._waiting) < len(callers):
                pass
        for caller in callers:
            caller.join(20)
            assert not caller.is_alive()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.environment.close()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commits that were made."""
    seen: list[str] = []
    monkeypatch.setattr(
        points, "reached", lambda point, path: seen.append(point) if point == points.COMMITTED else None
    )
    return seen


def keys_of(count: int) -> list[bytes]:
    return [b"%02d" % number for number in range(count)]


def test_a_lone_caller_has_a_commit_of_its_own(rig: Rig, commits: list[str]) -> None:
    for key in keys_of(3):
        rig.put(key)
    assert (rig.keys(), len(commits), rig.told) == (keys_of(3), 3, 3)


def test_those_who_wait_share_one_commit(rig: Rig, commits: list[str]) -> None:
    rig.together(*[threading.Thread(target=rig.put, args=(key,)) for key in keys_of(CALLERS)])
    assert (rig.keys(), len(commits), rig.told) == (keys_of(CALLERS), 1, 1)


def test_a_group_is_bounded_in_changes_and_in_bytes(
    rig: Rig, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GROUP_CHANGES_MAX", 5)
    rig.together(*[threading.Thread(target=rig.put, args=(key,)) for key in keys_of(CALLERS)])
    assert len(commits) == 3
    monkeypatch.setattr(limits, "GROUP_BYTES_MAX", 10)
    rig.together(*[threading.Thread(target=rig.put, args=(key, b"v", 6)) for key in keys_of(3)])
    assert len(commits) == 6


def test_one_that_fails_leaves_the_others_alone(rig: Rig, commits: list[str]) -> None:
    """What it had changed before it failed is undone, and it alone hears of its error."""
    errors: list[BaseException] = []

    def fail(txn: WriteTransaction) -> None:
        rig.table.put(txn, b"half", b"done")
        raise Aborted("another change came first")

    def failing() -> None:
        try:
            rig.commits.submit(fail, 1)
        except Aborted as error:
            errors.append(error)

    callers = [threading.Thread(target=rig.put, args=(key,)) for key in keys_of(3)]
    rig.together(callers[0], threading.Thread(target=failing), *callers[1:])
    assert (rig.keys(), len(commits), len(errors)) == (keys_of(3), 1, 1)


def test_what_does_not_fit_fails_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, map_bytes=1 << 20)
    refused: list[BaseException] = []

    def too_much() -> None:
        try:
            rig.put(b"large", bytes(1 << 21))
        except ResourceExhausted as error:
            refused.append(error)

    callers = [threading.Thread(target=rig.put, args=(key,)) for key in keys_of(3)]
    rig.together(callers[0], threading.Thread(target=too_much), *callers[1:])
    assert (rig.keys(), len(refused)) == (keys_of(3), 1)
    rig.environment.close()


def test_a_failure_after_the_commit_is_told_and_the_next_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ResourceExhausted("no memory for the index")

    with monkeypatch.context() as patched:
        patched.setattr(rig.commits, "_committed", fails)
        with pytest.raises(ResourceExhausted, match="no memory"):
            rig.put(b"a")
    rig.put(b"b")
    assert rig.keys() == [b"a", b"b"]


def test_changes_are_carried_out_in_the_order_in_which_they_came(rig: Rig) -> None:
    order: list[int] = []
    with rig.lock:
        callers = []
        for number in range(CALLERS):
            callers.append(
                threading.Thread(target=rig.commits.submit, args=(lambda txn, number=number: order.append(number), 1))
            )
            callers[-1].start()
            while len(rig.commits._waiting) <= number:
                pass
    for caller in callers:
        caller.join(20)
    assert order == list(range(CALLERS))
