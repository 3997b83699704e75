"""The packaged embedder by the type of its products: what bfloat16 saves, and whether it finds the same.

    python bench/embedding.py [--questions 8022] [--rounds 15] [--data FOLDER]

SQuAD's paragraphs, cut as they are stored, are embedded in batches of 32; then its questions, each of which looks for
its paragraph among all references (exact search). Queries are timed as the engine asks them: a few references of 64
tokens at most in one call, both types in turns. One thread.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from memory3.bench.machine import machine_line
from memory3.bench.real_data import Question, data_folder, read_squad
from memory3.model.embedder import Embedder
from memory3.model.language_model import LanguageModel
from memory3.model.schedule import CHUNK_TOKENS

BATCHES = (1, 3, 8)
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """What one type of products gives: vectors (N, D) of the references and (Q, D) of the questions, and seconds."""

    references: Matrix
    questions: Matrix
    seconds: float

    def recall(self, keys: Sequence[str], questions: Sequence[Question], k: int) -> float:
        """The share of questions whose paragraph's references are among the `k` nearest."""
        right = 0
        for number, question in enumerate(questions):
            scores = self.references @ self.questions[number]
            right += any(keys[place] == question.key for place in np.argpartition(-scores, k)[:k])
        return right / len(questions)


def embedded(embedder: Embedder, references: Sequence[str], questions: Sequence[Question]) -> Found:
    """Embed all; the seconds are those of the references."""
    began = time.perf_counter()
    vectors = embedder.embed(references)
    seconds = time.perf_counter() - began
    return Found(vectors, embedder.embed([question.text for question in questions]), seconds)


def query_milliseconds(embedders: Sequence[Embedder], texts: Sequence[str], batch: int, rounds: int) -> list[float]:
    """The median of one call with so many texts, for each embedder; each round asks all of them the same."""
    taken: list[list[float]] = [[] for _ in embedders]
    for number in range(rounds + 1):
        asked = [texts[(number * batch + n) % len(texts)] for n in range(batch)]
        for times, embedder in zip(taken, embedders, strict=True):
            began = time.perf_counter()
            embedder.embed(asked)
            times.append(1_000 * (time.perf_counter() - began))
    # The first call makes what later ones find made.
    return [median(times[1:]) for times in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, help="so many of SQuAD's [all]")
    parser.add_argument("--rounds", type=int, default=15, help="of timed queries [15]")
    parser.add_argument("--data", type=Path, help="folder of the data [../shared/data]")
    options = parser.parse_args()
    documents, questions = read_squad(data_folder(options.data))
    questions = questions[: options.questions]
    model = LanguageModel.load(None)
    cut = [(document.key, piece) for document in documents for piece in model.split(document.text)]
    keys, references = [key for key, _ in cut], [piece for _, piece in cut]
    checkpoint = model.checkpoint
    chunks = [checkpoint.text(checkpoint.encode(text)[:CHUNK_TOKENS]) for text in references[:1_000]]

    print(machine_line(), end="\n\n", flush=True)
    embedders = {"float32": Embedder.load(bfloat16=False), "bfloat16": Embedder.load(bfloat16=True)}
    times = [query_milliseconds(list(embedders.values()), chunks, batch, options.rounds) for batch in BATCHES]
    found = {name: embedded(embedder, references, questions) for name, embedder in embedders.items()}
    exact = found["float32"]
    print(f"{len(references)} references, {len(questions)} questions\n")
    print(f"| products in | {' | '.join(f'ms for {batch}' for batch in BATCHES)} | references/s | ", end="")
    print("recall@1 | recall@5 | cosine with float32, least |")
    print("| --- " * (len(BATCHES) + 5) + "|")
    for place, (name, one) in enumerate(found.items()):
        cells = [f"{row[place]:.1f}" for row in times] + [f"{len(references) / one.seconds:.1f}"]
        cells += [f"{one.recall(keys, questions, k):.4f}" for k in (1, 5)]
        cells.append(f"{np.sum(one.references * exact.references, axis=1).min():.5f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
