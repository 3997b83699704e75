"""Exact match by recall weight: how much a memory's place in the recall counts when it is read, for one trained model.

    python bench/recall_weight.py [--model FOLDER] [--questions 500] [EXAM.json ...]

The exam of `memory3 eval` through the real store and retriever, once for each weight, nothing trained or written
otherwise. Weight 0 reads all five memories alike, as the paper does; a very large one reads the best memory alone.
Before that, how far behind the best the others lie, which training imitates (`GAP` in model/training/batches.py).
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import torch
from memory3.bench.machine import machine_line
from memory3.cluster.embedded import Embedded
from memory3.cluster.examination import examine
from memory3.model.evaluation.exam import Exam, load_exam, unseen_worlds
from memory3.model.evaluation.score import Score
from memory3.model.layout import CONFIG_KEY
from memory3.model.loading import TINY
from memory3.store.types import Document

WEIGHTS = (0.0, 10.0, 20.0, 30.0, 60.0, 1000.0)
MEMORIES = 5


def weighed(model: Path, weight: float, folder: Path) -> Path:
    """A copy of a model that reads with another weight."""
    copy = folder / f"weight-{weight:g}"
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    config[CONFIG_KEY]["recall_weight"] = weight
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def print_gaps(exam: Exam) -> None:
    """How far behind the right memory the others lie, and how often it is the best."""
    asked = [question for question in exam.questions if question.answers]
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)) as memory:
        memory.upsert([Document(key, text) for key, text in exam.documents.items()])
        recalled = [memory.recall(question.text, MEMORIES) for question in asked]
    right = [hits for question, hits in zip(asked, recalled, strict=True) if hits[0].key == question.key]
    print(f"{exam.name}: the right memory is the best in {len(right) / len(asked):.3f} of {len(asked)} cases; then\n")
    print("| place | similarity behind it | spread |\n|---|---|---|")
    for place in range(1, MEMORIES):
        gaps = [hits[0].score - hits[place].score for hits in right]
        print(f"| {place + 1} | {statistics.mean(gaps):.3f} | {statistics.stdev(gaps):.3f} |")


def score(exam: Exam, model: Path) -> Score:
    result = examine(
        exam, model=str(model), device="cpu", memories=MEMORIES, ways=("memory",), progress=lambda done, total: None
    )
    return result.scores["memory"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=TINY, help="folder; the packaged model without it")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("exams", type=Path, nargs="*", help="exams in JSON besides the generated one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    exams = [unseen_worlds(options.questions, seed=2026), *map(load_exam, options.exams)]
    print(machine_line())
    print_gaps(exams[0])
    print(f"\n{options.model.name}, {MEMORIES} memories recalled\n")
    print("| exam | recall weight | exact match | right refusals | false refusals |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for weight in WEIGHTS:
            model = weighed(options.model, weight, Path(folder))
            for exam in exams:
                got = score(exam, model)
                shares = (got.exact_match, got.refused_rightly, got.refused_falsely)
                cells = " | ".join(f"{share.value:.3f}" for share in shares)
                print(f"| {exam.name} | {weight:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
