"""The benchmark of a walk: that it runs, on few memories."""

import sys
from pathlib import Path

import pytest
from memory3.bench import walk


def test_it_runs_and_prints_a_row_for_each_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["walk", "--memories", "1000", "--value-kib", "1", "--folder", str(tmp_path)])
    walk.main()
    printed = capsys.readouterr().out
    for expected in ("1000 memories", "walk through kv", "walk through records", "open the collection"):
        assert expected in printed
    assert list(tmp_path.iterdir()) == []
