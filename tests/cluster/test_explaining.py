"""Explanations over real gRPC and in process; and by the packaged model, whose answers depend on what it reads."""

from pathlib import Path

import pytest
from memory3.answers import Answer, Explained, Explaining, Finished
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.store.types import Document

DOCUMENTS = [
    Document("bees", "Mira Sandoval keeps bees on the roof of the old post office."),
    Document("ferry", "The ferry to the island leaves at nine."),
    Document("clocks", "Tomas repairs clocks in the harbour."),
]


def test_client_and_embedded_explain_alike(client: Client, memory: Embedded, collection: str) -> None:
    client.upsert(DOCUMENTS, collection=collection)
    client.write(collection=collection)

    def answers(of: Client | Embedded, explain: bool) -> list[Answer]:
        return [
            of.ask("Who keeps bees?", max_tokens=6, collection=collection, explain=explain).result(),
            of.generate(
                "Mira keeps geese. " * 30, max_tokens=6, memories=2, collection=collection, explain=explain
            ).result(),
        ]

    for over_grpc, in_process in zip(answers(client, True), answers(memory, True), strict=True):
        assert over_grpc.explanation == in_process.explanation and over_grpc.text == in_process.text
        assert "explain" in over_grpc.seconds
        for chunk in over_grpc.explanation:
            assert [memory.hit for memory in chunk.read] == list(chunk.recalled)
            assert sum(memory.mass for memory in chunk.read) + chunk.context_mass == pytest.approx(1.0)
            assert all(memory.log_probability_loss is not None for memory in chunk.read)
    assert len(in_process.explanation) > 2
    assert [chunk.chunk for chunk in in_process.explanation] == list(range(len(in_process.explanation)))
    for answer in answers(client, False):
        assert answer.explanation == () and "explain" not in answer.seconds


def test_the_explanation_comes_before_the_end(client: Client, collection: str) -> None:
    client.upsert(DOCUMENTS, collection=collection)
    with client.ask("Who keeps bees?", max_tokens=4, collection=collection, explain=True) as stream:
        *_, explaining, explained, finished = stream.events()
    assert explaining == Explaining(2, 3)
    assert isinstance(explained, Explained) and isinstance(finished, Finished)
    without = client.ask("Who?", max_tokens=4, memories=0, collection=collection, explain=True).result()
    assert without.explanation == () and "explain" in without.seconds


def test_the_memory_that_holds_the_answer_is_the_one_missed(tmp_path: Path, example_folder: Path) -> None:
    """By the packaged model: leaving it out makes the answer far less likely, leaving out another does not."""
    with Embedded(tmp_path) as memory:
        memory.upsert([Document(path.name, path.read_text()) for path in sorted(example_folder.glob("*.md"))])
        answer = memory.ask("How tall is Lantern Point Lighthouse?", explain=True).result()
    assert answer.text == "37 metres"
    (chunk,) = answer.explanation
    holding, *others = sorted(chunk.read, key=lambda read: -(read.log_probability_loss or 0.0))
    assert "37 metres" in holding.hit.text and not any("37 metres" in other.hit.text for other in others)
    assert (holding.log_probability_loss or 0.0) > 5
    assert all(abs(other.log_probability_loss or 0.0) < 1 for other in others)
    assert holding.mass > 2 * max(other.mass for other in others)
