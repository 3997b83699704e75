"""What a model is examined on: documents, questions they answer, and questions that none of them answers."""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ...store.errors import InvalidArgument
from ..training.worlds import Passage, World


@dataclass(frozen=True, slots=True)
class ExamQuestion:
    """A question, every answer that counts as right, the key of its document, and the kind of fact it asks for.

    Without an answer (`answers` empty) the right thing is to say that one does not know.
    """

    text: str
    answers: tuple[str, ...]
    key: str = ""
    fact: str = ""


@dataclass(frozen=True, slots=True)
class Exam:
    """Documents by key, and the questions."""

    name: str
    documents: dict[str, str]
    questions: tuple[ExamQuestion, ...]

    @property
    def answerable(self) -> int:
        return sum(bool(question.answers) for question in self.questions)


def unseen_worlds(questions: int, seed: int) -> Exam:
    """An exam on entities whose names and numbers never occur in training.

    For every five questions that a document answers there is one that none answers: half of these ask for a fact
    that the entity's document does not tell, half for an entity of which nothing is told.
    """
    random = Random(seed)
    world = World(seed, "test", (2, 5))
    documents: dict[str, str] = {}
    drawn: list[ExamQuestion] = []
    while sum(bool(question.answers) for question in drawn) < questions:
        key = f"{len(documents):05d}"
        passage = world.passage()
        documents[key] = passage.text
        asked = random.sample(passage.questions, min(2, len(passage.questions)))
        drawn += [ExamQuestion(q.text, (q.answer,), key, q.fact) for q in asked]
        drawn += _unanswerable(world, passage, random)
    return Exam(f"unseen worlds (seed {seed})", documents, tuple(drawn))


def _unanswerable(world: World, passage: Passage, random: Random) -> list[ExamQuestion]:
    draw = random.random()
    if draw < 0.2:
        return [ExamQuestion(random.choice(passage.unanswerable).text, (), fact="missing fact")]
    if draw < 0.4:
        return [ExamQuestion(world.stranger(passage.kind).text, (), fact="unknown entity")]
    return []


def load_exam(path: Path) -> Exam:
    """Read an exam from JSON.

    The file holds `documents` [{key, text}], `questions` [{question, answers, key}] and `unanswerable` [question].

    Raises:
        InvalidArgument: the file is missing or of another form.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        documents = {document["key"]: document["text"] for document in data["documents"]}
        asked = [ExamQuestion(q["question"], tuple(q["answers"]), q["key"]) for q in data["questions"]]
        unknown = [ExamQuestion(question, ()) for question in data["unanswerable"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(
            f"{path} is no exam ({type(error).__name__}: {error}); it needs documents, questions and unanswerable"
        ) from error
    return Exam(path.stem, documents, (*asked, *unknown))
