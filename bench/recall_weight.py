"""Exact match by recall weight: how much a memory's place in the recall counts when it is read, for one trained model.

    python bench/recall_weight.py [--model FOLDER] [--questions 500]

The exam of `memory3 eval` through the real store and retriever, once for each weight, nothing trained or written
otherwise. Weight 0 reads all five memories alike, as the paper does; a very large one reads the best memory alone.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from machine import machine_line
from memory3.cluster.examination import examine
from memory3.model.evaluation.exam import Exam, load_exam, unseen_worlds
from memory3.model.evaluation.score import Score
from memory3.model.layout import CONFIG_KEY
from memory3.model.loading import TINY

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
    print(f"{options.model.name}, {MEMORIES} memories recalled\n")
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
