"""Short form of the power failures; the long one is `python bench/reliability.py --only power`."""

from pathlib import Path

import pytest
from memory3.store.disk.environment import Environment
from memory3.tests.reliability.power import power_failures


def test_whatever_the_power_leaves_is_opened_and_is_all_that_was_acknowledged() -> None:
    outcome = power_failures(failures=60, every=9)
    assert outcome.violations == []
    assert outcome.counts["failures"] == 60 and outcome.counts["disks"] > 150


@pytest.mark.parametrize("durable", [True, False])
def test_environments_sync_as_the_model_of_the_disk_takes_for_granted(tmp_path: Path, durable: bool) -> None:
    environment = Environment.create(tmp_path / "environment", 1 << 20, durable)
    flags = environment.lmdb.flags()
    environment.close()
    assert (flags["sync"], flags["metasync"], flags["writemap"]) == (True, durable, False)
