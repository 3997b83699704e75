"""The arithmetic of many memories."""

import json
from pathlib import Path

import pytest
from memory3.bench import capacity
from memory3.bench.capacity import key_value_bytes_on_disk

FIGURES = {
    "memories": 1_000_000,
    "disk": {"records": 2_000_000_000, "kv": 0, "index": 400_000_000},
    "index bytes": 500_000_000,
    "recalls/s, 1 callers": 200.0,
}


def test_key_values_take_whole_pages_of_their_own() -> None:
    assert key_value_bytes_on_disk(4_072) == 4_096
    assert key_value_bytes_on_disk(4_073) == 8_192
    assert key_value_bytes_on_disk(39_424) == 40_960


def test_needs_follow_from_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({"machine": {"hardware": "a machine"}, "figures": FIGURES}))
    given = ["--memories", "1e9", "--key-value-bytes", "39424", "--replicas", "2", "--cached", "0.1", "--full", "1"]
    node = ["--cores", "20", "--memory-gib", "100", "--disk-tb", "10", "--price", "10", "--recalls", "40"]
    assert capacity.main([str(file), *given, *node]) == 0
    row = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    # 100 shards; 2e9 copies of 2,000 and 400 bytes, and of 40,960; 500 in memory, and a tenth of the 2,000.
    assert row[:7] == ["1e+09", "100", "39,424", "4.0 TB", "0.8 TB", "81.9 TB", "1.40 TB"]
    # 86.72 TB on 10 TB each, less 4 GB; 1.4 TB in 107.4 GB each, less 5 GB; 40 * 100 searches on 200 * 20.
    assert row[7:] == ["9 / 14 / 1", "140"]
