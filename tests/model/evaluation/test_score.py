"""Scores: what counts as right, and what as a refusal."""

import math

import pytest
from memory3.model.evaluation.exam import ExamQuestion
from memory3.model.evaluation.score import Share, is_refusal, is_right, normalised, score

_ASKED = ExamQuestion("Who owns the mill?", ("Ada Pell", "the Pell family"), "mill", "building.owner")
_UNKNOWN = ExamQuestion("Who painted the mill?", (), fact="missing fact")


def test_case_articles_and_punctuation_do_not_count() -> None:
    assert normalised("The  Pell family.") == "pell family"
    assert is_right(_ASKED, "ada pell.") and is_right(_ASKED, "Pell Family")


@pytest.mark.parametrize("answer", ["Ada", "Ada Pell and Tom Pell", "", "I don't know."])
def test_a_part_of_an_answer_or_more_than_it_is_wrong(answer: str) -> None:
    assert not is_right(_ASKED, answer)


def test_not_knowing_is_right_only_where_there_is_no_answer() -> None:
    assert is_right(_UNKNOWN, "I don't know.") and is_refusal("I don’t know".replace("’", "'"))
    assert not is_right(_UNKNOWN, "Ada Pell")


def test_scores_are_counted_apart() -> None:
    questions = [_ASKED, _ASKED, _ASKED, _UNKNOWN, _UNKNOWN]
    result = score(questions, ["Ada Pell", "Tom", "I don't know.", "I don't know.", "Tom"])
    assert result.exact_match == Share(1, 3)
    assert result.refused_falsely == Share(1, 3)
    assert result.refused_rightly == Share(1, 2)
    assert result.by_kind == {"building": Share(1, 3), "missing fact": Share(1, 2)}


def test_a_share_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Share(0, 0).value)
