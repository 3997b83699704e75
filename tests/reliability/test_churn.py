"""Short form of the churn; the long one is `python bench/reliability.py --only churn`."""

import tempfile
from pathlib import Path

from memory3.tests.reliability.churn import churn
from memory3.tests.reliability.faults import folder_in_memory


def test_what_is_overwritten_is_not_kept() -> None:
    """In memory, so that its latencies are the store's own."""
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        outcome = churn(Path(folder), documents=60, rounds=12)
    assert outcome.violations == []
