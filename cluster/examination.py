"""Sits an exam with the whole service: real store, retriever and generation; `memory3 eval` prints the result."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..answers import AnswerStream
from ..calls import Progress
from ..model.evaluation.exam import Exam
from ..model.evaluation.score import Score, Share, score
from ..model.source import GenerationOptions
from ..store.types import Document, Hit
from .embedded import Embedded

ANSWER_TOKENS = 32
_UPSERT_DOCUMENTS = 256


@dataclass(frozen=True, slots=True)
class Result:
    """An exam's result: `scores` and `seconds` a question by way, and how often recall found the right document.

    The ways: "memory" reads key-values, "text" has the texts of the same hits in its context (text RAG), "none" has
    neither.
    """

    exam: Exam
    fingerprint: str
    memories: int
    scores: dict[str, Score]
    found: Share
    seconds: dict[str, float]


WAYS = ("memory", "text", "none")


def examine(
    exam: Exam, *, model: str | None, device: str, memories: int, ways: Sequence[str] = WAYS, progress: Progress
) -> Result:
    """Store the exam's documents in a new directory and answer its questions each way.

    Args:
        memories: recalled for each question.
        progress: told of steps done and to do: documents stored and written, questions recalled for and answered.
    """
    with (
        tempfile.TemporaryDirectory(prefix="memory3-eval-") as folder,
        Embedded(Path(folder), model=model, device=device) as memory,
    ):
        documents = [Document(key, text) for key, text in exam.documents.items()]
        steps = _Steps(progress, 2 * len(documents) + (1 + len(ways)) * len(exam.questions))
        for start in range(0, len(documents), _UPSERT_DOCUMENTS):
            batch = documents[start : start + _UPSERT_DOCUMENTS]
            memory.upsert(batch)
            memory.write([document.key for document in batch])
            steps.add(2 * len(batch))
        hits = []
        for question in exam.questions:
            hits.append(memory.recall(question.text, memories) if memories else [])
            steps.add(1)
        found = [
            any(hit.key == question.key for hit in recalled)
            for question, recalled in zip(exam.questions, hits, strict=True)
            if question.answers
        ]
        scores, seconds = {}, {}
        for way in ways:
            answers, spent = _answer(memory, exam, hits, way, memories, steps)
            scores[way], seconds[way] = score(exam.questions, answers), spent / len(exam.questions)
        return Result(
            exam,
            memory.models.language_model.fingerprint,
            memories,
            scores,
            Share(sum(found), len(found)),
            seconds,
        )


def _answer(
    memory: Embedded, exam: Exam, hits: Sequence[Sequence[Hit]], way: str, memories: int, steps: "_Steps"
) -> tuple[list[str], float]:
    """All answers of one way, and the seconds that generation took."""
    answers, seconds = [], 0.0
    for question, recalled in zip(exam.questions, hits, strict=True):
        if way == "text":
            options = GenerationOptions(max_tokens=ANSWER_TOKENS, memories=0)
            prompt = memory.models.language_model.prompt_with_texts(question.text, [hit.text for hit in recalled])
            stream = AnswerStream(memory.models.engine.generate(prompt, None, options=options))
        else:
            stream = memory.ask(question.text, memories=memories if way == "memory" else 0, max_tokens=ANSWER_TOKENS)
        answer = stream.result()
        answers.append(answer.text)
        seconds += answer.seconds["total"]
        steps.add(1)
    return answers, seconds


class _Steps:
    """Counts steps for a `Progress`."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)
