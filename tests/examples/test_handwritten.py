"""The hand-written test set must hang together, and share nothing with the example documents."""

import json
import re
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
DATA: dict[str, Any] = json.loads((TESTS / "data" / "handwritten.json").read_text(encoding="utf-8"))
TEXTS: dict[str, str] = {document["key"]: document["text"] for document in DATA["documents"]}


def test_documents_are_short_and_keyed_once() -> None:
    assert len(TEXTS) == len(DATA["documents"]) >= 40
    for text in TEXTS.values():
        assert 30 <= len(text.split()) <= 90
        assert text == " ".join(text.split())


def test_every_answer_is_a_short_span_of_its_document() -> None:
    questions = DATA["questions"]
    assert len({item["question"] for item in questions}) == len(questions) >= 120
    assert {item["key"] for item in questions} == set(TEXTS)
    for item in questions:
        assert item["question"].endswith("?")
        assert item["answers"]
        for answer in item["answers"]:
            assert 1 <= len(answer.split()) <= 5
            assert answer in TEXTS[item["key"]]


def test_unanswerable_questions_stand_apart() -> None:
    unanswerable = DATA["unanswerable"]
    assert len(set(unanswerable)) == len(unanswerable) >= 25
    assert all(question.endswith("?") for question in unanswerable)
    assert not set(unanswerable) & {item["question"] for item in DATA["questions"]}


def test_no_name_is_shared_with_the_examples() -> None:
    name = re.compile(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b")
    folder = TESTS.parent / "examples" / "harbour"
    examples = {found for path in folder.glob("*.md") for found in name.findall(path.read_text(encoding="utf-8"))}
    handwritten = {found for text in [*TEXTS.values(), *DATA["unanswerable"]] for found in name.findall(text)}
    assert not examples & handwritten
