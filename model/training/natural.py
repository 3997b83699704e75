"""Passages of natural text with questions: continued quotations from any text, and question sets in SQuAD's format."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from ..prompts import UNKNOWN
from .worlds import Passage, Question

_DOCUMENT_LINE = "<|doc|>"
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[A-Z0-9])")
_QUOTATIONS = (
    'What comes after "{q}"?',
    'How does the text go on after "{q}"?',
    'Which words follow "{q}"?',
    'Continue: "{q}"',
)


def sentences(text: str) -> list[str]:
    """Cut a text roughly at sentence ends."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def windows(text: str, words_max: int) -> Iterator[str]:
    """Whole sentences in a row, at most `words_max` words together."""
    held: list[str] = []
    count = 0
    for sentence in sentences(" ".join(text.split())):
        words = len(sentence.split())
        if words > words_max:
            continue
        if count + words > words_max:
            yield " ".join(held)
            held, count = [], 0
        held.append(sentence)
        count += words
    if held:
        yield " ".join(held)


def document_windows(folder: Path, words_max: int) -> Iterator[list[str]]:
    """The windows of each document in the texts (`*.txt`) of a folder, those of fewer than 15 words left out."""
    for path in sorted(folder.glob("*.txt")):
        for document in path.read_text(encoding="utf-8", errors="replace").split(_DOCUMENT_LINE):
            yield [window for window in windows(document, words_max) if len(window.split()) >= 15]


class Quotations:
    """Passages of the texts (`*.txt`) in a folder; each question quotes some words and asks for the next ones."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._random = Random(seed)
        self._windows = [window for document in document_windows(folder, words_max=60) for window in document]
        self._random.shuffle(self._windows)

    def __len__(self) -> int:
        return len(self._windows)

    def passage(self) -> Passage:
        text = self._random.choice(self._windows)
        words = text.split()
        questions = []
        for _ in range(2):
            length = self._random.randint(3, 6)
            start = self._random.randrange(0, len(words) - length - 1)
            quotation = " ".join(words[start : start + length])
            answer = " ".join(words[start + length : start + length + self._random.randint(1, 4)])
            if text.count(quotation) == 1:
                question = self._random.choice(_QUOTATIONS).format(q=quotation.strip('"'))
                questions.append(Question(question, answer.rstrip('.,;:!?"'), "natural.quotation"))
        return Passage(text, tuple(question for question in questions if question.answer), (), "natural.quotation")


class QuestionSet:
    """Passages around the answers of a question set in SQuAD's JSON format, cut to whole sentences."""

    def __init__(self, path: Path, seed: int, words_max: int = 65) -> None:
        self._random = Random(seed)
        self._passages: list[Passage] = []
        data = json.loads(path.read_text(encoding="utf-8"))
        for article in data["data"]:
            paragraphs = article["paragraphs"]
            for number, paragraph in enumerate(paragraphs):
                other = paragraphs[(number + len(paragraphs) // 2) % len(paragraphs)]
                self._passages += _around_answers(paragraph, other, words_max)

    def __len__(self) -> int:
        return len(self._passages)

    def passage(self) -> Passage:
        return self._random.choice(self._passages)


def _around_answers(paragraph: dict, other: dict, words_max: int) -> Iterator[Passage]:  # type: ignore[type-arg]
    """One passage for each window of a paragraph, with the questions whose answer stands in it."""
    strangers = [Question(qa["question"].strip(), UNKNOWN, "") for qa in other["qas"][:3]]
    for window in windows(paragraph["context"], words_max):
        found = []
        for qa in paragraph["qas"]:
            answer = qa["answers"][0]
            before = " ".join(
                paragraph["context"][max(0, answer["answer_start"] - 25) : answer["answer_start"]].split()
            )
            text = answer["text"].strip()
            if before in window and text in window and len(text.split()) <= 6:
                found.append(Question(qa["question"].strip(), text, "natural.question"))
        if found:
            yield Passage(window, tuple(found), tuple(strangers), "natural.question")
