"""Worlds: what is asked is told, once and without doubt, and nothing of the test split is ever trained on."""

import re
from collections.abc import Iterator
from functools import cache

import pytest
from memory3.model.prompts import UNKNOWN
from memory3.model.training import lists
from memory3.model.training.names import Names, Split, in_split
from memory3.model.training.phrases import KINDS, VALUE_MAKERS
from memory3.model.training.worlds import Passage, World

PASSAGES = 1_500
INVENTED = ("surname", "first_name", "place", "person")
"""Makers whose every long word is invented or dealt out to a split."""
NUMBERS = ("year", "age", "count", "code", "phone", "room", "percent")
"""Makers whose every number is dealt out to a split."""


@cache
def passages(split: Split, seed: int = 5) -> list[Passage]:
    world = World(seed, split)
    return [world.passage() for _ in range(PASSAGES)]


def shared_words() -> set[str]:
    """Words of closed classes, which both splits know."""
    tables = (
        lists.PLACE_WORDS, lists.PLACE_SUFFIXES, lists.FIRM_WORDS, lists.EVENT_WORDS, lists.BUILDING_WORDS,
        lists.TEAM_WORDS, lists.INSTITUTE_WORDS, lists.ADJECTIVES, lists.MONTHS, *lists.CLOSED.values(),
    )  # fmt: skip
    return {word.lower() for table in tables for entry in table for word in re.findall(r"[A-Za-z]+", entry)}


def made(maker: str, split: Split, count: int = 600) -> Iterator[str]:
    from random import Random

    names = Names(Random(11), split)
    for _ in range(count):
        yield names.make(maker)


@pytest.mark.parametrize("maker", INVENTED)
def test_names_of_the_splits_share_no_word(maker: str) -> None:
    words = {
        split: {word.lower() for name in made(maker, split) for word in re.findall(r"[A-Za-z]{4,}", name)}
        for split in ("train", "test")
    }
    assert len(words["train"]) > 100 and len(words["test"]) > 20
    assert words["train"] & words["test"] <= shared_words()


@pytest.mark.parametrize("maker", NUMBERS)
def test_numbers_of_the_splits_are_disjoint(maker: str) -> None:
    numbers = {
        split: {n for value in made(maker, split) for n in re.findall(r"\d+", value.replace(",", ""))}
        for split in ("train", "test")
    }
    assert len(numbers["train"]) > 20 and len(numbers["test"]) >= 5
    assert not numbers["train"] & numbers["test"]


def test_every_word_and_number_belongs_to_one_split() -> None:
    words = [str(number) for number in range(4_000)] + ["Mira", "mira", "Sandoval"]
    assert all(in_split(word, "train") != in_split(word, "test") for word in words)
    assert in_split("Mira", "train") == in_split("mira", "train")
    assert 0.09 < sum(in_split(word, "test") for word in words) / len(words) < 0.16


def test_answers_with_invented_words_or_numbers_never_repeat_between_the_splits() -> None:
    """Over many passages: an answer that both splits give is made of closed classes alone."""
    answers = {
        split: {question.answer for passage in passages(split) for question in passage.questions}
        for split in ("train", "test")
    }
    known = shared_words() | {"am", "pm", "the", "of", "a", "and"}
    for answer in answers["train"] & answers["test"]:
        if re.fullmatch(r"\d{1,2}:\d\d [ap]m", answer) or re.fullmatch(r"\d{1,2} [A-Z][a-z]+", answer):
            continue  # times of day and days of the year: all of them are shared
        words = {word.lower() for word in re.findall(r"[A-Za-z]{2,}", answer)}
        assert words <= known and not re.search(r"\d", answer), answer


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_answer_stands_in_its_text(split: Split) -> None:
    for passage in passages(split):
        assert 2 <= len(passage.questions) <= 5
        for question in passage.questions:
            assert question.answer in passage.text, (question, passage.text)
            assert question.fact.startswith(passage.kind + ".")


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_two_facts_of_a_passage_have_the_same_value(split: Split) -> None:
    """So that every question has one right answer."""
    for passage in passages(split):
        answers = [question.answer for question in passage.questions]
        assert len(set(answers)) == len(answers)
        assert len({question.fact for question in passage.questions}) == len(answers)


def test_what_has_no_answer_is_not_told() -> None:
    for passage in passages("train"):
        assert len(passage.unanswerable) == 2
        told = {question.text.lower() for question in passage.questions}
        for question in passage.unanswerable:
            assert question.answer == UNKNOWN and question.fact == ""
            assert question.text.lower() not in told


def test_no_slot_is_left_open() -> None:
    for passage in passages("train"):
        texts = [passage.text, *(q.text for q in (*passage.questions, *passage.unanswerable))]
        assert not [text for text in texts if re.search(r"[{}]", text)]


def test_articles_fit_what_follows() -> None:
    wrong = [
        p.text for p in passages("train") if re.search(r"\b[Aa] [aeio][a-z]|\b[Aa]n [bcdfgjklmnpqrstvwz][a-z]", p.text)
    ]
    assert len(wrong) < len(passages("train")) / 100, wrong[:3]


def test_a_seed_fixes_the_world() -> None:
    first, again, other = (World(seed, "train") for seed in (3, 3, 4))
    told = [[world.passage() for _ in range(20)] for world in (first, again, other)]
    assert told[0] == told[1] != told[2]


def test_a_passage_like_another_tells_the_same_facts_of_another_entity() -> None:
    """Retrieval finds such passages; a model that never read them side by side confuses them."""
    world = World(1, "test")
    for _ in range(200):
        passage = world.passage()
        other = world.passage(like=passage)
        facts, other_facts = ({question.fact for question in p.questions} for p in (passage, other))
        assert other.kind == passage.kind and facts & other_facts
        assert other.text != passage.text and len(other_facts) == len(other.questions)


def test_strangers_are_unknown_in_every_kind() -> None:
    world = World(1, "test")
    for kind in KINDS:
        stranger = world.stranger(kind.name)
        assert stranger.answer == UNKNOWN and stranger.text


@pytest.mark.parametrize("maker", sorted(VALUE_MAKERS))
def test_every_maker_makes_varied_values(maker: str) -> None:
    values = list(made(maker, "train", 60))
    assert all(value and value == value.strip() for value in values)
    assert len(set(values)) >= 4
