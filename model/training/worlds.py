"""Generated worlds: entities with facts, told as short texts, and questions on them with their answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ..prompts import UNKNOWN
from .names import Names, Split
from .phrases import FILLERS, KINDS, Attribute, Kind

RECORD_SHARE = 0.06
"""Passages told as a list of labels and values instead of sentences."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its answer, and the kind of fact it asks for ("person.birthplace"; "" when there is no answer)."""

    text: str
    answer: str
    fact: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A text of at most one reference and what can be asked about it; `unanswerable` asks for facts it lacks."""

    text: str
    questions: tuple[Question, ...]
    unanswerable: tuple[Question, ...]
    kind: str


class World:
    """Draws passages about ever new entities.

    Args:
        seed: the same seed gives the same passages.
        split: names and numbers of "train" never occur in "test".
        facts: least and most facts told of one entity.
    """

    def __init__(self, seed: int, split: Split, facts: tuple[int, int] = (2, 5)) -> None:
        self._random = Random(seed)
        self._names = Names(self._random, split)
        self._facts = facts

    def passage(self, like: Passage | None = None) -> Passage:
        """A passage about one new entity, of any kind or `like` another: of its kind, telling some of the same facts.

        A retriever finds the passages that are like the right one, so a model has to learn to tell these apart.
        """
        if like is None:
            return self._tell(self._random.choice(KINDS), ())
        told = [question.fact for question in like.questions]
        kind = next(kind for kind in KINDS if kind.name == like.kind)
        shared = [attribute for attribute in kind.attributes if f"{kind.name}.{attribute.name}" in told]
        return self._tell(kind, self._random.sample(shared, self._random.randint(1, len(shared))))

    def _tell(self, kind: Kind, shared: Sequence[Attribute]) -> Passage:
        """Tell the facts `shared`, and others up to a number drawn."""
        random = self._random
        entity = self._names.make(kind.entity)
        others = [attribute for attribute in kind.attributes if attribute not in shared]
        known = [*shared, *random.sample(others, max(0, random.randint(*self._facts) - len(shared)))]
        values = self._values(known, entity)
        if random.random() < RECORD_SHARE:
            text = self._record(known, entity, values)
        else:
            text = self._join(kind, entity, self._sentences(kind, known, values))
        questions = tuple(
            Question(self._ask(attribute, entity), values[attribute.name], f"{kind.name}.{attribute.name}")
            for attribute in known
        )
        missing = [attribute for attribute in kind.attributes if attribute not in known]
        unanswerable = tuple(
            Question(self._ask(attribute, entity), UNKNOWN, "") for attribute in random.sample(missing, 2)
        )
        return Passage(text, questions, unanswerable, kind.name)

    def stranger(self, kind: str) -> Question:
        """A question about an entity of which nothing is ever told."""
        choice = next(k for k in KINDS if k.name == kind)
        return Question(self._ask(self._random.choice(choice.attributes), self._names.make(choice.entity)), UNKNOWN, "")

    def _values(self, attributes: Sequence[Attribute], entity: str) -> dict[str, str]:
        """A value for each attribute, all different, so that every question has one right answer."""
        values: dict[str, str] = {}
        for attribute in attributes:
            value = self._names.make(attribute.values)
            while value in values.values() or value in entity:
                value = self._names.make(attribute.values)
            values[attribute.name] = value
        return values

    def _record(self, known: Sequence[Attribute], entity: str, values: dict[str, str]) -> str:
        """The entity's name and a line for each fact, as in a data sheet."""
        lines = [f"{attribute.name.replace('_', ' ').capitalize()}: {values[attribute.name]}" for attribute in known]
        self._random.shuffle(lines)
        return self._random.choice(("\n", "\n", "; ")).join([entity, *lines])

    def _sentences(self, kind: Kind, known: Sequence[Attribute], values: dict[str, str]) -> list[str]:
        """One sentence for a fact, or for a pair of facts; each still with its slot `{e}`."""
        random = self._random
        left = {attribute.name: attribute for attribute in known}
        sentences = []
        for pair in random.sample(kind.pairs, len(kind.pairs)):
            if pair.first in left and pair.second in left and random.random() < 0.5:
                template = random.choice(pair.statements)
                sentences.append(_fill(template, a=values[pair.first], b=values[pair.second]))
                del left[pair.first], left[pair.second]
        sentences += [_fill(random.choice(a.statements), v=values[a.name]) for a in left.values()]
        random.shuffle(sentences)
        return sentences

    def _join(self, kind: Kind, entity: str, sentences: list[str]) -> str:
        """Name the entity, or refer back to it, and mix in sentences that tell nothing."""
        random = self._random
        if random.random() < 0.3:
            sentences.insert(0, random.choice(kind.openings))
        told = []
        reference = random.choice(kind.references)
        possessive = _possessive(reference)
        for number, sentence in enumerate(sentences):
            if number and random.random() < 0.45:
                if sentence.startswith("{e} "):
                    sentence = reference + sentence[3:]
                elif sentence.startswith("{e}'s "):
                    sentence = possessive + sentence[5:]
            told.append(_fill(sentence, e=entity))
            if random.random() < 0.1:
                told.append(random.choice(FILLERS))
        separator = "\n" if random.random() < 0.1 else " "
        return separator.join(told)

    def _ask(self, attribute: Attribute, entity: str) -> str:
        question = _fill(self._random.choice(attribute.questions), e=entity)
        if self._random.random() < 0.1:
            question = question[0].lower() + question[1:]
        return question


def _possessive(reference: str) -> str:
    return {"He": "His", "She": "Her", "It": "Its", "They": "Their"}.get(reference, f"{reference}'s")


def _fill(template: str, **slots: str) -> str:
    """Put values in their slots and set "a" or "an" before each by its first letter."""
    for name, value in slots.items():
        slot = "{" + name + "}"
        if value[:1].lower() in "aeiou":
            template = template.replace(" a " + slot, " an " + slot).replace("A " + slot, "An " + slot)
        else:
            template = template.replace(" an " + slot, " a " + slot).replace("An " + slot, "A " + slot)
        template = template.replace(slot, value)
    return template
