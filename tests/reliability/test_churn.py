"""Short form of the churn; the long one is `python bench/reliability.py --only churn`."""

import tempfile
from pathlib import Path

import pytest
from memory3.store import limits
from memory3.tests.reliability.churn import churn
from memory3.tests.reliability.content import DIMENSION
from memory3.tests.reliability.faults import folder_in_memory


def test_what_is_overwritten_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, so that its latencies are the store's own; with an index that is clustered, saved and trimmed."""
    monkeypatch.setattr(limits, "EXACT_MAX", 40)
    monkeypatch.setattr(limits, "SNAPSHOT_CHANGES_MIN", 200)
    monkeypatch.setattr(limits, "CHANGES_KEPT", 400)
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        outcome = churn(Path(folder), documents=100, rounds=12, dimension=DIMENSION)
    assert outcome.violations == []
    assert outcome.figures["index"].startswith("quantized")
    assert outcome.counts["documents overwritten"] == 1_200
