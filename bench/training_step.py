"""Where a training step's time goes, and what padding and the optimizer's precision cost.

    python bench/training_step.py [--steps 5]

A memory step of the recipe `tiny` on one CPU thread: the median of its parts; the share of padding when rows and
references are padded to the longest, and in the parts by length in which they are run; and one step of our Muon
against `torch.optim.Muon`, which computes in bfloat16, on the same matrices.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from memory3.bench.machine import machine_line
from memory3.model.attention import NAME
from memory3.model.loading import TINY, load_tokenizer
from memory3.model.training.batches import Encoder, MemoryBatch, Sampler
from memory3.model.training.muon import Muon
from memory3.model.training.optimizer import MasterOptimizer
from memory3.model.training.reading import memory_logits, parts_by_length
from memory3.model.training.recipes import RECIPES
from memory3.model.training.trainer import arithmetic
from memory3.model.training.worlds import World
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

T = TypeVar("T")

RECIPE = RECIPES["tiny"]
STAGE = RECIPE.stages[-1]


def step(
    model: PreTrainedModel, optimizer: MasterOptimizer, sampler: Sampler, seconds: dict[str, list[float]]
) -> MemoryBatch:
    def timed(name: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        seconds[name].append(time.perf_counter() - started)
        return result

    batch = timed("draw the batch", lambda: sampler.memory_batch(STAGE.references, STAGE.rows, STAGE.reads, 0.2))
    logits, targets, weights = timed("forward", lambda: memory_logits(model, batch, RECIPE.layout(STAGE.kept_tokens)))
    losses = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    timed("backward", (losses * weights).sum().backward)
    timed("optimizer", lambda: optimizer.step(rate=0.0))
    return batch


def padding(used: Tensor) -> tuple[float, float]:
    """The share of padding in (N, T) bool padded to the longest, and in parts by length."""
    lengths = (used * torch.arange(1, used.shape[1] + 1)).amax(dim=1)
    in_parts = sum(width * len(used[part]) for part, width in parts_by_length(used))
    return 1 - float(lengths.sum()) / used.numel(), 1 - float(lengths.sum()) / in_parts


def muons(model: PreTrainedModel) -> Iterator[tuple[str, float]]:
    """Seconds of one step over the matrices of the blocks."""
    matrices = [weight.detach().float().clone() for name, weight in model.named_parameters() if "layers" in name]
    matrices = [matrix for matrix in matrices if matrix.ndim == 2]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    for name, optimizer in (
        ("torch.optim.Muon (bfloat16)", torch.optim.Muon(matrices, lr=0.0)),
        ("ours in bfloat16", Muon(matrices, 0.0, 0.0, torch.bfloat16)),
        ("ours in float32", Muon(matrices, 0.0, 0.0, torch.float32)),
    ):
        optimizer.step()
        started = time.perf_counter()
        optimizer.step()
        yield name, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kind = arithmetic("cpu")
    model = AutoModelForCausalLM.from_pretrained(TINY, attn_implementation=NAME, dtype=kind).train()
    optimizer = MasterOptimizer(model, 0.0, 0.0, 0.0)
    sampler = Sampler(Encoder(load_tokenizer(None)), World(1, "train", STAGE.facts), 1)
    seconds: dict[str, list[float]] = defaultdict(list)
    batches = [step(model, optimizer, sampler, seconds) for _ in range(options.steps + 1)]
    print(machine_line())
    print(f"{STAGE.references} references, {STAGE.rows} questions, {kind}; median of {options.steps} steps\n")
    print("| part of a step | seconds |\n|---|---|")
    for name, spent in seconds.items():
        print(f"| {name} | {statistics.median(spent[1:]):.2f} |")
    print("\n| padding of | to the longest | in parts by length |\n|---|---|---|")
    for name, used in (
        ("references", [batch.references.valid for batch in batches]),
        ("questions", [batch.rows.weights > 0 for batch in batches]),
    ):
        shares = [padding(one) for one in used]
        print(
            f"| {name} | " + " | ".join(f"{statistics.mean(column):.2f}" for column in zip(*shares, strict=True)) + " |"
        )
    print("\n| optimizer of the matrices | seconds a step |\n|---|---|")
    for name, spent_once in muons(model):
        print(f"| {name} | {spent_once:.2f} |")


if __name__ == "__main__":
    main()
