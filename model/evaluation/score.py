"""Scoring answers: exact match as SQuAD normalises it, right refusals, false refusals, all with their spread."""

import math
import re
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..prompts import UNKNOWN
from .exam import ExamQuestion

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and spare spaces (as SQuAD's own evaluation does)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def is_refusal(answer: str) -> bool:
    """Whether an answer says that the model does not know."""
    return normalised(answer).startswith(normalised(UNKNOWN))


def is_right(question: ExamQuestion, answer: str) -> bool:
    """Exact match with any right answer, or a refusal where there is none."""
    if not question.answers:
        return is_refusal(answer)
    return normalised(answer) in {normalised(right) for right in question.answers}


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total`."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def margin(self) -> float:
        """Half of the 95 % interval (normal approximation)."""
        return 1.96 * math.sqrt(self.value * (1 - self.value) / self.total) if self.total else math.nan


@dataclass(frozen=True, slots=True)
class Score:
    """The result of one way of answering an exam."""

    exact_match: Share
    refused_rightly: Share
    refused_falsely: Share
    by_kind: dict[str, Share]


def score(questions: Sequence[ExamQuestion], answers: Sequence[str]) -> Score:
    """Score answers, one to a question."""
    pairs = list(zip(questions, answers, strict=True))
    answerable = [(question, answer) for question, answer in pairs if question.answers]
    unanswerable = [(question, answer) for question, answer in pairs if not question.answers]
    kinds: dict[str, list[bool]] = defaultdict(list)
    for question, answer in pairs:
        if question.fact:
            kinds[question.fact.split(".")[0]].append(is_right(question, answer))
    return Score(
        _share([is_right(question, answer) for question, answer in answerable]),
        _share([is_right(question, answer) for question, answer in unanswerable]),
        _share([is_refusal(answer) for _, answer in answerable]),
        {kind: _share(hits) for kind, hits in sorted(kinds.items())},
    )


def _share(hits: Sequence[bool]) -> Share:
    return Share(sum(hits), len(hits))
