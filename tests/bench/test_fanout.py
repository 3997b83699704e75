"""The tail of a fan-out against draws, and the script on a file."""

import json
from pathlib import Path

import numpy as np
import pytest
from memory3.bench import fanout
from memory3.bench.fanout import Slowest, in_turn

RANDOM = np.random.default_rng(4)
SAMPLE = RANDOM.lognormal(0.5, 0.6, 2_000)


def test_the_slowest_of_one_node_is_the_sample() -> None:
    for share in (0.5, 0.99):
        time, known = Slowest.of(SAMPLE).quantile(share, 1)
        assert time == np.percentile(SAMPLE, 100 * share, method="inverted_cdf") and known


@pytest.mark.parametrize("hedged", [False, True])
def test_the_slowest_of_many_is_what_draws_give(hedged: bool) -> None:
    after = float(np.percentile(SAMPLE, 95)) if hedged else None
    draws = RANDOM.choice(SAMPLE, (20_000, 20))
    if after is not None:
        draws = np.minimum(draws, after + RANDOM.choice(SAMPLE, draws.shape))
    drawn = draws.max(axis=1)
    slowest = Slowest.of(SAMPLE, after)
    for share in (0.5, 0.9):
        assert slowest.quantile(share, 20)[0] == pytest.approx(np.quantile(drawn, share), rel=0.03)
    deadline = float(np.median(drawn))
    assert slowest.whole(deadline, 20) == pytest.approx(0.5, abs=0.02)


def test_what_lies_beyond_the_sample_is_said_to() -> None:
    slowest = Slowest.of(SAMPLE)
    assert slowest.quantile(0.99, 20)[1]
    assert slowest.quantile(0.999, 1_000) == (SAMPLE.max(), False)
    assert slowest.whole(0.0, 5) == 0.0


def test_a_core_that_searches_several_shards_takes_their_sum() -> None:
    times = in_turn(SAMPLE, 4)
    assert np.mean(times) == pytest.approx(4 * np.mean(SAMPLE), rel=0.02)
    assert in_turn(SAMPLE, 1) is SAMPLE


def test_it_prints_a_row_for_each_number_of_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({"machine": {"hardware": "a machine"}, "samples_ms": {"recall": SAMPLE.tolist()}}))
    assert fanout.main([str(file), "--sample", "recall", "--deadline-ms", "10", "--network-ms", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a machine"
    assert [line.split(" | ")[0] for line in lines[3:]] == [f"| {nodes:,}" for nodes in fanout.NODES]
    assert float(lines[3].split(" | ")[1].split(" / ")[0]) == pytest.approx(np.median(SAMPLE) + 1, abs=0.1)
    assert fanout.main([str(file), "--sample", "other"]) == 2
