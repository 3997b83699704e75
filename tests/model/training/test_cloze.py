"""Cloze questions: what is asked for stands in the text once, and the question does not give it away."""

from pathlib import Path

import pytest
from memory3.model.prompts import UNKNOWN
from memory3.model.training.cloze import KIND, Cloze, blanks

BEES = (
    "In 1947 the widow of a baker, Mira Sandoval, moved her twelve beehives to the roof of the old post office. "
    "She sold 350 jars of honey every summer to visitors from Ostmark, who praised the taste of lime blossom."
)
CLOCKS = (
    "The town clock was repaired by her brother Tomas, who had learnt his trade in Pellgate with a famous watchmaker. "
    "He needed eleven weeks, since the great wheel had rusted and nobody else could make another one of its size."
)


def found(text: str) -> dict[str, str]:
    return {blank.answer: blank.kind for blank in blanks(text)}


def test_names_numbers_years_and_phrases_are_found() -> None:
    kinds = found(BEES)
    assert kinds["1947"] == "year" and kinds["350"] == "number" and kinds["twelve"] == "number"
    assert kinds["Mira Sandoval"] == "name" and kinds["Ostmark"] == "name"
    assert kinds["taste"] == "phrase" and kinds["widow"] == "phrase"


def test_what_stands_twice_is_not_asked_for() -> None:
    assert "Mira Sandoval" not in found(f"{BEES} The mayor of Ostmark thanked Mira Sandoval for her patience.")


@pytest.mark.parametrize("word", ["1947", "350", "Mira Sandoval"])
def test_a_blank_and_its_clause_are_the_text(word: str) -> None:
    (blank,) = [blank for blank in blanks(BEES) if blank.answer == word]
    words = " ".join(BEES.split())
    assert " ".join([*blank.before, blank.answer]) in words
    assert word not in blank.before and word not in blank.after and len(blank.before) <= 14


def test_years_inside_numbers_and_dates_are_no_years() -> None:
    text = "The committee counted 1,947 members and 1947.5 litres of apple juice in the register number 19471."
    assert "1947" not in found(text)


@pytest.fixture
def source(tmp_path: Path) -> Cloze:
    code = "The function `open(path)` returns the handle of {file} that the caller named in the table | of | paths."
    (tmp_path / "one.txt").write_text(f"{BEES} {CLOCKS} {code}\n<|doc|>\nToo short to ask about.", encoding="utf-8")
    return Cloze(tmp_path, seed=1, words_max=45)


def test_passages_ask_what_they_answer_and_what_stands_beside_them(source: Cloze) -> None:
    assert len(source) == 2, "code and short documents are left out"
    drawn = [source.passage() for _ in range(200)]
    assert {passage.text for passage in drawn} == {BEES, CLOCKS}
    for passage in drawn:
        assert passage.kind == KIND and 1 <= len(passage.questions) <= 3
        for question in passage.questions:
            assert passage.text.count(question.answer) == 1
            assert question.answer not in question.text and question.text.endswith("?")
        other = CLOCKS if passage.text == BEES else BEES
        missing = {blank.answer for blank in blanks(other)}
        assert len(passage.unanswerable) == 2 and missing
        assert all(question.answer == UNKNOWN and question.fact == "" for question in passage.unanswerable)


def test_question_words_fit_the_answer(source: Cloze) -> None:
    asked: dict[str, set[str]] = {}
    for _ in range(400):
        for question in source.passage().questions:
            asked.setdefault(question.answer, set()).add(question.text.lower())
    assert all("when" in text or "what year" in text for text in asked["1947"])
    assert any("how many jars" in text for text in asked["350"])
    assert any(text.startswith("where") for text in asked["Ostmark"])
    assert any(text.startswith(("who", "what", "which")) for text in asked["Mira Sandoval"])
