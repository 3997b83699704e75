"""The comparison of ways to find the nearest lists runs."""

import pytest
from memory3.bench import nearest_lists


def test_it_prints_a_row_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert nearest_lists.main(["--lists", "10", "20", "--vectors", "1", "30", "--calls", "2"]) == 0
    rows = capsys.readouterr().out.splitlines()[4:]
    assert [row.split(" | ")[:2] for row in rows] == [["| 10", "1"], ["| 10", "30"], ["| 20", "1"], ["| 20", "30"]]
