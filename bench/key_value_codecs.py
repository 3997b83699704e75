"""What each stored form of key-values takes, costs and loses, for one trained model: one table.

    python bench/key_value_codecs.py [--model FOLDER] [--questions 2000] [--codebooks FOLDER] [--stored NAME ...]

The documents of the exam of `memory3 eval` are stored and recalled from once, and their exact keys and values (float32)
are written once; each form then codes these, and the same questions read the same memories decoded. So what differs
between two rows is the form alone, and the difference in exact match is paired: its interval counts only questions that
are answered rightly with one form and wrongly with the other. Rates are for a second of processor time, one thread.
Codebooks for rq14, shared by the layers or one for each layer, are trained on generated texts of the training split and
kept in FOLDER; what is there already is used.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from memory3.answers import AnswerStream
from memory3.bench.machine import machine_line
from memory3.cluster.embedded import Embedded
from memory3.model.codebooks import FILE, Codebooks
from memory3.model.evaluation.exam import Exam, ExamQuestion, unseen_worlds
from memory3.model.evaluation.score import is_right
from memory3.model.key_values import KeyValueForm
from memory3.model.language_model import LanguageModel
from memory3.model.layout import TRAINED
from memory3.model.source import GenerationOptions, MemorySource
from memory3.model.training.codebooks import sample, train_codebooks
from memory3.model.training.worlds import World
from memory3.store.types import Document, Hit

MEMORIES = 5
ANSWER_TOKENS = 32
TIMED = 128
"""Memories coded to measure the rate."""
TRAINING_TEXTS = 2_000


FORMS = ("bfloat16", "int8", "int4", "rq14", "rq14-each-layer")


@dataclass(frozen=True)
class Form:
    """A stored form under the name of its row."""

    name: str
    codebooks: Codebooks | None = None

    @property
    def stored(self) -> str:
        return self.name.removesuffix("-each-layer")

    def of(self, model: LanguageModel) -> KeyValueForm:
        form = model.checkpoint.form
        return KeyValueForm(replace(form.layout, stored=self.stored), form.kv_heads, form.head_size, self.codebooks)

    def model(self, model: LanguageModel) -> LanguageModel:
        layout = replace(model.checkpoint.layout, stored=self.stored)
        return LanguageModel(replace(model.checkpoint, layout=layout, codebooks=self.codebooks))


class Recalled(MemorySource):
    """A memory source that has recalled already: the hits of each question, and key-values by seq."""

    def __init__(self, hits: Sequence[Hit], values: dict[int, bytes]) -> None:
        self._hits, self._values = list(hits), values

    def recall(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [self._hits[:k] for _ in queries]

    def key_values(self, hits: Sequence[Hit]) -> list[bytes | None]:
        return [self._values[hit.seq] for hit in hits]


@dataclass(frozen=True)
class Row:
    """What one form takes, costs and loses; `right` says of each question whether it was answered rightly."""

    bytes: int
    encoded_s: float
    decoded_s: float
    key_error: float
    value_error: float
    right: list[bool]


def codebooks_of(model: LanguageModel, name: str, folder: Path) -> Codebooks | None:
    """Those in the folder, trained now if there are none; None for a form without."""
    if not name.startswith(TRAINED):
        return None
    if not (folder / FILE).exists():
        world = World(7, "train")
        texts = [world.passage().text for _ in range(TRAINING_TEXTS)]
        samples = sample(model, texts, 0, lambda done, total: None, each_layer=name != TRAINED)
        folder.mkdir(parents=True, exist_ok=True)
        train_codebooks(samples, 0, lambda done, total: None).save(folder)
    return Codebooks.load(folder / FILE, model.checkpoint.model.device)


def recalled(exam: Exam) -> list[list[Hit]]:
    """The memories that the real store and retriever find for each question."""
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)) as memory:
        memory.upsert([Document(key, text) for key, text in exam.documents.items()])
        return [memory.recall(question.text, MEMORIES) for question in exam.questions]


def measure(
    model: LanguageModel,
    form: Form,
    exact: dict[int, tuple[torch.Tensor, int]],
    questions: Sequence[ExamQuestion],
    hits: Sequence[Sequence[Hit]],
) -> Row:
    """One form on the exact key-values (by seq: (L, 2, G, tokens, D) and the tokens), and on all questions."""
    coder, reader = form.of(model), form.model(model)
    started = time.process_time()
    values = {seq: coder.encode(key_values, tokens) for seq, (key_values, tokens) in exact.items()}
    encoded = time.process_time()
    device, dtype = model.checkpoint.model.device, model.checkpoint.model.dtype
    timed = list(values.values())[:TIMED]
    for start in range(0, len(timed), MEMORIES):
        coder.layers(timed[start : start + MEMORIES], device, dtype)
    decoded = time.process_time() - encoded
    lost, whole = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for seq, (key_values, tokens) in exact.items():
        got = coder.decode(values[seq])[0][..., :tokens, :].float()
        lost += (got - key_values).square().sum((0, 2, 3, 4))
        whole += key_values.square().sum((0, 2, 3, 4))
    options = GenerationOptions(max_tokens=ANSWER_TOKENS, memories=MEMORIES)
    right = []
    for question, found in zip(questions, hits, strict=True):
        answer = AnswerStream(reader.ask(question.text, Recalled(found, values), options=options)).result()
        right.append(is_right(question, answer.text))
    keys, of_values = (lost / whole).tolist()
    return Row(coder.bytes, (encoded - started) / len(values), decoded / len(timed), keys, of_values, right)


def difference(right: Sequence[bool], base: Sequence[bool]) -> tuple[float, float]:
    """Points of exact match gained on the base, and half of the 95 % interval of the paired difference."""
    gained = sum(a and not b for a, b in zip(right, base, strict=True))
    lost = sum(b and not a for a, b in zip(right, base, strict=True))
    count = len(right)
    mean = (gained - lost) / count
    return 100 * mean, 100 * 1.96 * math.sqrt(((gained + lost) / count - mean**2) / count)


def show(form: Form, row: Row, base: Row) -> str:
    points, margin = difference(row.right, base.right)
    change = "" if row is base else f"{points:+.2f} ± {margin:.2f}"
    cells = [
        form.name,
        f"{row.bytes:,}",
        f"{base.bytes / row.bytes:.2f}",
        f"{1 / row.encoded_s:,.0f}",
        f"{1 / row.decoded_s:,.0f}",
        f"{row.key_error:.2g}",
        f"{row.value_error:.2g}",
        f"{sum(row.right) / len(row.right):.4f}",
        change,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="folder or name; the packaged model without it")
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--codebooks", type=Path, default=Path("runs/codecs"), help="where those for rq14 are kept")
    parser.add_argument("--stored", nargs="+", choices=FORMS, default=FORMS, help="the first is compared with")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line(), flush=True)
    model = LanguageModel.load(options.model, stored="float32")
    forms = [Form(name, codebooks_of(model, name, options.codebooks / name)) for name in options.stored]
    exam = unseen_worlds(options.questions, seed=2026)
    hits = recalled(exam)
    asked = [(question, found) for question, found in zip(exam.questions, hits, strict=True) if question.answers]
    texts = {hit.seq: hit.text for found in hits for hit in found}
    written = [model.checkpoint.form.decode(value) for value in model.write(list(texts.values()), shorten=True)]
    exact = {
        seq: (key_values[..., :tokens, :], tokens) for seq, (key_values, tokens) in zip(texts, written, strict=True)
    }
    print(f"{model.name}; {exam.name}: {len(asked)} questions, {MEMORIES} memories recalled of {len(exact)}\n")
    columns = (
        "stored",
        "bytes",
        "smaller",
        "encoded/s",
        "decoded/s",
        "error of keys",
        "of values",
        "exact match",
        "points",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    base: Row | None = None
    for form in forms:
        row = measure(model, form, exact, *zip(*asked, strict=True))
        base = base or row
        print(show(form, row, base), flush=True)


if __name__ == "__main__":
    main()
