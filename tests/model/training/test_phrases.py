"""The phrase tables keep their promises: slots, makers, and questions that ask for one attribute only."""

import re
from collections import Counter

import pytest
from memory3.model.training.phrases import FILLERS, KINDS, VALUE_MAKERS, Kind

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def slots(template: str) -> list[str]:
    return sorted(re.findall(r"\{(.*?)\}", template))


def repeated(texts: list[str]) -> list[str]:
    return [text for text, times in Counter(text.lower() for text in texts).items() if times > 1]


@kinds
def test_each_template_has_its_slots_once(kind: Kind) -> None:
    for attribute in kind.attributes:
        assert [t for t in attribute.statements if slots(t) != ["e", "v"]] == []
        assert [t for t in attribute.questions if slots(t) != ["e"]] == []
    for pair in kind.pairs:
        assert [t for t in pair.statements if slots(t) != ["a", "b", "e"]] == []
    assert [t for t in kind.openings if slots(t) != ["e"]] == []


@kinds
def test_nothing_is_said_or_asked_twice(kind: Kind) -> None:
    statements = [t for a in kind.attributes for t in a.statements] + [t for p in kind.pairs for t in p.statements]
    questions = [re.sub(r"\b[Tt]he \{e\}", "{e}", t) for a in kind.attributes for t in a.questions]
    if kind.name == "event":  # "took place in {v}" is right for a year, a town and the weather
        statements = [t for t in statements if t != "{e} took place in {v}."]
    assert repeated(statements) == []
    assert repeated(questions) == []


@kinds
def test_makers_and_names_are_known(kind: Kind) -> None:
    names = [attribute.name for attribute in kind.attributes]
    assert kind.entity in VALUE_MAKERS
    assert {attribute.values for attribute in kind.attributes} <= VALUE_MAKERS
    assert len(set(names)) == len(names)
    assert {pair.first for pair in kind.pairs} | {pair.second for pair in kind.pairs} <= set(names)


@kinds
def test_there_is_enough_variety(kind: Kind) -> None:
    assert len(kind.attributes) >= (16 if kind.name == "person" else 10)
    assert len(kind.pairs) >= 10
    assert len(kind.openings) >= 6
    for attribute in kind.attributes:
        assert len(attribute.statements) >= 7
        assert len(attribute.questions) >= 5
        assert any(t.startswith(("{e} ", "{e}'s ")) for t in attribute.statements)
    assert all(len(pair.statements) >= 2 for pair in kind.pairs)


@kinds
def test_sentences_end_as_sentences(kind: Kind) -> None:
    statements = [t for a in kind.attributes for t in a.statements] + list(kind.openings)
    assert [t for t in statements if not re.search(r"[.!?)\}]\"?$", t)] == []
    assert [t for a in kind.attributes for t in a.questions if t[-1] not in "?."] == []


def test_kinds_and_fillers_are_distinct() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) == 11
    assert len(FILLERS) >= 60
    assert repeated(list(FILLERS)) == []
    assert [t for t in FILLERS if slots(t)] == []
