"""Time of decoding's attention on a CPU, beside PyTorch's own attention over the same sizes side by side.

    python bench/cpu_attention.py [--batch 1 8 32] [--contexts 192 1024] [--threads 1]

The kernel is checked against the reference before it is timed. As in a model, calls go through several layers' keys and
values in turns, so that these come from memory where they do not all fit the caches. Memories are the packaged model's:
five of 32 tokens, each sequence's own, in slots in no order; as float32, and as whole numbers with scales, which `int4`
and `int8` stay in a CPU's pool. PyTorch gets memories and context already laid side by side, all sequences equally
long, and pays neither for copying nor for a mask.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads

import torch
from memory3.bench.machine import machine_line
from memory3.kernels.blocks import PAGE_TOKENS, Blocks, Pages, Slots
from memory3.kernels.cpu.decode import decode
from memory3.kernels.reference import attend_blocks
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

MEMORIES, KEPT = 5, 32
LAYERS = 6
SHAPES = {"packaged": (4, 4, 64), "paper": (40, 8, 80)}
"""Query heads, KV heads, head size."""
ROUNDS = 20


@dataclass(frozen=True)
class Inputs:
    """Sequences of equal length in every layer.

    `side_by_side` are keys and values (2, LAYERS, B, G, M + S, D), of the same sizes but other numbers.
    """

    query: Tensor
    pages: list[Pages]
    floats: list[Slots]
    whole: list[Slots]
    blocks: Blocks
    side_by_side: Tensor

    @property
    def scale(self) -> float:
        root: float = self.query.shape[2] ** -0.5
        return root


def inputs(heads: int, groups: int, size: int, batch: int, length: int) -> Inputs:
    pages, count = -(-length // PAGE_TOKENS), batch * MEMORIES
    context = torch.randn(LAYERS, 2, batch * pages, groups, PAGE_TOKENS, size)
    whole = torch.randint(-127, 128, (LAYERS, 2, count, groups, KEPT, size), dtype=torch.int8)
    scales = torch.rand(LAYERS, 2, count, groups, KEPT) / 64
    floats = whole * scales[..., None]
    tokens = torch.full((count,), KEPT, dtype=torch.int32)
    first = torch.arange(batch, dtype=torch.int32)
    places, slots = (torch.randperm(all_of).int().view(batch, -1) for all_of in (batch * pages, count))
    return Inputs(
        torch.randn(batch, heads, size),
        [Pages(*layer) for layer in context],
        [Slots(key, value, tokens) for key, value in floats],
        [Slots(key, value, tokens, (by[0], by[1])) for (key, value), by in zip(whole, scales, strict=True)],
        Blocks(first, torch.ones_like(first), torch.full_like(first, length), places, slots, None, 1, length),
        torch.randn(2, LAYERS, batch, groups, MEMORIES * KEPT + length, size),
    )


def ours(given: Inputs, memories: list[Slots] | None, layer: int) -> Tensor:
    out = torch.empty_like(given.query)
    slots = None if memories is None else memories[layer]
    decode(given.query, given.pages[layer], slots, given.blocks, scale=given.scale, out=out)
    return out


def by_pytorch(given: Inputs, memories: bool, layer: int) -> Tensor:
    key, value = given.side_by_side[:, layer, :, :, 0 if memories else MEMORIES * KEPT :]
    # The heads that share a KV head as so many queries of it: PyTorch would read it once for each of them.
    query = given.query.view(len(given.query), key.shape[1], -1, key.shape[3])
    return scaled_dot_product_attention(query, key, value, scale=given.scale)


def check(given: Inputs, memories: list[Slots] | None) -> None:
    slots = None if memories is None else memories[0]
    wanted, _ = attend_blocks(given.query, given.pages[0], slots, given.blocks, scale=given.scale)
    torch.testing.assert_close(ours(given, memories, 0), wanted, atol=1e-5, rtol=1e-5)


def milliseconds(runs: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """The median time of a call, all kinds in turns, so that what else the machine does strikes them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            for layer in range(LAYERS):
                began = time.perf_counter()
                run(layer)
                seconds[name].append(time.perf_counter() - began)
    return {name: 1e3 * median(found) for name, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--contexts", type=int, nargs="+", default=[192, 1024])
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, and of the kernel [1]")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{machine_line()}; {options.threads} threads; {MEMORIES} memories of {KEPT} tokens; ms a layer\n")
    kinds = ("context", "PyTorch", "with memories", "in whole numbers", "PyTorch")
    print(f"| shape | batch | context | {' | '.join(kinds)} | GB/s |")
    print("|---" * (4 + len(kinds)) + "|")
    for name in options.shape:
        for batch in options.batch:
            for length in options.contexts:
                given = inputs(*SHAPES[name], batch, length)
                for memories in (None, given.floats, given.whole):
                    check(given, memories)
                found = milliseconds(
                    {
                        "context": partial(ours, given, None),
                        "context by PyTorch": partial(by_pytorch, given, False),
                        "floats": partial(ours, given, given.floats),
                        "whole": partial(ours, given, given.whole),
                        "floats by PyTorch": partial(by_pytorch, given, True),
                    }
                )
                rate = given.side_by_side[:, 0].nbytes / found["floats"] / 1e6
                times = " | ".join(f"{time:.3f}" for time in found.values())
                print(f"| {name} | {batch} | {length} | {times} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
