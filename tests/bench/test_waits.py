"""The benchmark of what writes wait for: that it counts holds, and runs, on few memories."""

import sys
import threading
import time
from pathlib import Path

import pytest
from memory3.bench import waits
from memory3.store import limits


def test_the_longest_hold_is_told_by_work_and_by_the_clock() -> None:
    holds = waits.Holds()
    lock = waits.CountedLock(threading.Lock(), holds)
    for seconds in (0.0, 0.05, 0.0):
        with lock:
            time.sleep(seconds)
    own, clock = map(int, holds.row().split(" | ")[0].split(" / "))
    assert own < 25 and clock >= 50
    holds.clear()
    assert holds.row() == "0 / 0 | 0 / 0 | 0 / 0"


def test_it_runs_and_prints_a_row_for_each_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Put back after the test: the benchmark keeps less of the log.
    monkeypatch.setattr(limits, "CHANGES_KEPT", limits.CHANGES_KEPT)
    only = ["a check", "a full check", "clustering", "saving, the log trimmed", "compaction"]
    monkeypatch.setattr(sys, "argv", ["waits", "--memories", "500", "--folder", str(tmp_path), "--only", *only])
    waits.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| beside", *(f"| {name}" for name in only)]
    assert list(tmp_path.iterdir()) == []
