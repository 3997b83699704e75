"""The example documents and questions must hang together: every answer stands in its document."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = EXAMPLES / "harbour"
QUESTIONS: dict[str, Any] = json.loads((EXAMPLES / "questions.json").read_text(encoding="utf-8"))
DOCUMENTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def paragraphs(document: str) -> list[str]:
    return [part.strip() for part in document.split("\n\n")[1:]]


def test_the_folder_states_enough_facts() -> None:
    assert 30 <= len(DOCUMENTS) <= 45
    facts = [sentence for text in DOCUMENTS.values() for part in paragraphs(text) for sentence in sentences(part)]
    assert len(facts) >= 170
    assert len(set(facts)) == len(facts)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_one_title_and_short_paragraphs(name: str) -> None:
    lines = DOCUMENTS[name].splitlines()
    assert lines[0].startswith("# ")
    assert not any(line.startswith("#") for line in lines[1:])
    assert 1 <= len(paragraphs(DOCUMENTS[name])) <= 3
    for paragraph in paragraphs(DOCUMENTS[name]):
        assert 35 <= len(paragraph.split()) <= 80
        assert not paragraph.startswith(("He ", "She ", "It ", "They ", "His ", "Her ", "Its "))


def test_the_ten_questions_are_answered_by_their_documents() -> None:
    questions = QUESTIONS["questions"]
    assert len({item["question"] for item in questions}) == len(questions) == 10
    for item in questions:
        assert item["question"].endswith("?")
        assert 1 <= len(item["answer"].split()) <= 4
        assert item["answer"] in DOCUMENTS[item["document"]]


def test_the_change_turns_one_answer_into_another() -> None:
    change = QUESTIONS["change"]
    assert DOCUMENTS[change["document"]].count(change["old_sentence"]) == 1
    assert change["before"] in change["old_sentence"]
    assert change["after"] in change["new_sentence"]
    assert not any(change["new_sentence"] in text for text in DOCUMENTS.values())


def test_the_deleted_answer_stands_in_one_document_only() -> None:
    delete = QUESTIONS["delete"]
    assert [name for name, text in DOCUMENTS.items() if delete["before"] in text] == [delete["document"]]


def test_unknown_questions_are_not_among_the_known_ones() -> None:
    unknown = QUESTIONS["unknown"]
    assert len(set(unknown)) == 2
    assert all(question.endswith("?") for question in unknown)
    assert not set(unknown) & {item["question"] for item in QUESTIONS["questions"]}
    everything = "\n".join(DOCUMENTS.values())
    assert "Chess Club" not in everything
    assert [name for name, text in DOCUMENTS.items() if "Joris Fenwick" in text] == ["brackwater-ferry-company.md"]
    assert everything.count("Joris Fenwick") == 1
