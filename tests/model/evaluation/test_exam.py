"""Exams: what they ask can be answered, or not, from what they store."""

import json
from pathlib import Path

import pytest
from memory3.model.evaluation.exam import load_exam, unseen_worlds
from memory3.store.errors import InvalidArgument


def test_every_generated_answer_stands_in_its_document() -> None:
    exam = unseen_worlds(200, seed=3)
    assert exam.answerable >= 200
    for question in exam.questions:
        if question.answers:
            assert question.answers[0] in exam.documents[question.key]


def test_about_a_sixth_of_the_questions_have_no_answer() -> None:
    exam = unseen_worlds(600, seed=4)
    without = [question for question in exam.questions if not question.answers]
    assert 0.1 < len(without) / len(exam.questions) < 0.25
    assert {question.fact for question in without} == {"missing fact", "unknown entity"}


def test_the_same_seed_gives_the_same_exam() -> None:
    assert unseen_worlds(30, seed=5) == unseen_worlds(30, seed=5)
    assert unseen_worlds(30, seed=5) != unseen_worlds(30, seed=6)


def test_an_exam_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(
        json.dumps(
            {
                "documents": [{"key": "a", "text": "Pim paints boats."}],
                "questions": [{"question": "What does Pim paint?", "answers": ["boats"], "key": "a"}],
                "unanswerable": ["Where does Pim live?"],
            }
        )
    )
    exam = load_exam(path)
    assert (exam.name, exam.answerable, len(exam.questions)) == ("own", 1, 2)


@pytest.mark.parametrize("content", ["", "{}", '{"documents": [], "questions": 3, "unanswerable": []}'])
def test_a_file_of_another_form_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match=r"bad\.json"):
        load_exam(path)
