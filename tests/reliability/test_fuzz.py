"""Short form of the fuzzers; the long one is `python bench/reliability.py --only fuzz`."""

from pathlib import Path

from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.tests.reliability.decoders import fuzz_decoders
from memory3.tests.reliability.requests import fuzz_requests


def test_decoders_take_what_is_right_and_refuse_the_rest_in_our_words() -> None:
    outcome = fuzz_decoders(20_000)
    assert outcome.violations == []
    assert outcome.counts["inputs"] >= 19_900 and outcome.counts["refused"] > 8_000


def test_every_message_is_answered_by_one_of_our_codes(tmp_path: Path, random_model: str) -> None:
    with Embedded(tmp_path, model=random_model) as memory, Server(memory) as server:
        outcome = fuzz_requests(server, 1_000)
    assert outcome.violations == []
    assert outcome.counts["messages"] == 1_000 and outcome.counts["OK"] > 100
