"""Short form of the fuzzers; the long one is `python bench/reliability.py --only fuzz`."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import memory3.store
import memory3.wire
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.tests.reliability.decoders import fuzz_decoders
from memory3.tests.reliability.requests import fuzz_requests


def test_decoders_take_what_is_right_and_refuse_the_rest_in_our_words() -> None:
    outcome = fuzz_decoders(20_000)
    assert outcome.violations == []
    assert outcome.counts["inputs"] >= 19_900 and outcome.counts["refused"] > 8_000


def test_every_decoder_is_fuzzed() -> None:
    """One that is new, or is no longer called, is noticed."""
    decoders = dict(decoders_of(memory3.store, memory3.wire))
    called: set[CodeType] = set()

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    sys.setprofile(watch)
    try:
        fuzz_decoders(1_000)
    finally:
        sys.setprofile(None)
    assert len(decoders) > 20
    assert [name for code, name in decoders.items() if code not in called] == []


def decoders_of(*packages: Any) -> Iterator[tuple[CodeType, str]]:
    """Every function of these packages that by its name reads stored or travelling bytes."""
    for package in packages:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, function in inspect.getmembers(importlib.import_module(found.name), inspect.isfunction):
                if name.startswith("decode_"):
                    yield function.__code__, f"{function.__module__}.{name}"


def test_every_message_is_answered_by_one_of_our_codes(tmp_path: Path, random_model: str) -> None:
    with Embedded(tmp_path, model=random_model) as memory, Server(memory) as server:
        outcome = fuzz_requests(server, 1_000)
    assert outcome.violations == []
    assert outcome.counts["messages"] == 1_000 and outcome.counts["OK"] > 100
