"""Time of the attention kernels on a GPU, beside the bytes that they must move and beside PyTorch's own attention.

    python bench/kernels.py [--shape paper llama] [--batch 1 16 256] [--contexts 128 2048 32768] [--tune]

Every line is checked against the reference before it is timed. Decoding is bound by memory: its floor are the bytes of
keys, values, queries and results over the copy bandwidth that the same run measures. Prefill is bound by products, and
is told in TFLOP/s. The peers get memories and context already laid side by side, and do not pay for it: PyTorch's
scaled_dot_product_attention, and FlexAttention compiled. All sequences are equally long, which suits the peers.

`--tune` tries other launch settings than those of kernels/gpu/launch.py and prints the best.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from memory3.bench.kernel_inputs import DTYPE, KEPT, MEMORIES, SHAPES, Inputs, check, dense, inputs, seen
from memory3.bench.machine import machine_line
from memory3.kernels.blocks import BLOCK_QUERIES
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

COPIED_BYTES = 2**30


def peers(given: Inputs, device: str) -> dict[str, Callable[[], Tensor]]:
    """The same attention by PyTorch, (B, H, T, D)."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    query, key, value = dense(given)
    several = given.queries > 1
    memories, before = MEMORIES * KEPT, given.length - given.queries

    def visible(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return (column < memories) | (column - memories <= row + before)

    mask = seen(given, device) if several else None
    blocks = create_block_mask(visible, None, None, given.queries, key.shape[2], device=device) if several else None
    flex: Any = torch.compile(flex_attention, dynamic=False)
    return {
        "SDPA": lambda: scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=given.scale, enable_gqa=True
        ),
        "Flex": lambda: flex(query, key, value, block_mask=blocks, scale=given.scale, enable_gqa=True),
    }


def ours(given: Inputs) -> Tensor:
    from memory3.kernels.gpu.decode import decode
    from memory3.kernels.gpu.prefill import prefill

    kernel = decode if given.queries == 1 else prefill
    return kernel(given.query, given.pages, given.slots, given.blocks, scale=given.scale)[0]


def check_peer(given: Inputs, out: Tensor, peer: Tensor) -> None:
    """What is compared must be the same attention."""
    joined = out.view(given.batch, given.queries, given.shape.heads, given.shape.size).transpose(1, 2)
    difference = (joined.float() - peer.float()).abs().max().item()
    assert difference <= 4 * torch.finfo(DTYPE).eps * joined.abs().max().item(), f"a peer is off by {difference:.2e}"


def milliseconds(run: Callable[[], object]) -> float:
    from triton.testing import do_bench

    return float(do_bench(run, return_mode="median"))


def copy_bandwidth() -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / milliseconds(lambda: target.copy_(source)) * 1e3


def cases(
    names: list[str], batches: list[int], lengths: list[int], queries: int | None
) -> Iterator[tuple[str, Inputs]]:
    """Inputs that fit the device beside the peers' copy; `queries` of each context, or all of it."""
    for name, batch, length in product(names, batches, lengths):
        shape = SHAPES[name]
        size = 2 * batch * length * shape.groups * shape.size * DTYPE.itemsize
        if 4 * size > torch.cuda.mem_get_info()[0]:
            print(f"| {name} | {batch} | {length} | left out: {size / 2**30:.0f} GiB of keys and values |")
            continue
        yield name, inputs(shape, batch, length, queries or length, "cuda")


def report(name: str, given: Inputs, bandwidth: float) -> None:
    out = ours(given)
    check(given, out)
    own = milliseconds(lambda: ours(given))
    if given.queries == 1:
        measure = f"{given.bytes_moved / 2**20:.1f} MiB | {own * 1e-3 * bandwidth / given.bytes_moved:.2f}"
    else:
        measure = f"{given.operations / 1e12:.3f} T | {given.operations / own / 1e9:.0f} TFLOP/s"
    others = []
    for peer in peers(given, "cuda").values():
        check_peer(given, out, peer())
        others.append(f"{milliseconds(peer) / own:.2f}")
    print(
        f"| {name} | {given.batch} | {given.length} | {own * 1e3:.1f} | {measure} | {' | '.join(others)} |", flush=True
    )


def tune(name: str, given: Inputs) -> None:
    """Try launch settings, and print the best beside the one that is used."""
    from memory3.kernels.gpu import decode, prefill
    from memory3.kernels.gpu.launch import Settings
    from triton.runtime.errors import OutOfResources

    module, setter = (decode, "decode_settings") if given.queries == 1 else (prefill, "prefill_settings")
    used = milliseconds(lambda: ours(given))
    found = []
    for tile, warps, stages in product((32, 64), (4, 8), range(2, 7)):
        settings = Settings(BLOCK_QUERIES, tile, warps, stages)
        with patch.object(module, setter, return_value=settings):
            try:
                check(given, ours(given))
                found.append((milliseconds(lambda: ours(given)), settings))
            except OutOfResources:
                continue
    best, settings = min(found, key=lambda one: one[0])
    print(f"| {name} | {given.batch} | {given.length} | {used * 1e3:.1f} | {best * 1e3:.1f} | {settings} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 1024, 8192, 32768])
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 8192], help="lengths of prompts; batch 1")
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: these kernels are timed on a GPU only", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    bandwidth = copy_bandwidth()
    print(
        f"{machine_line()}; copy bandwidth {bandwidth / 1e9:.0f} GB/s; {DTYPE}; {MEMORIES} memories of {KEPT} tokens\n"
    )
    for kind, batches, lengths, queries in (
        ("decode", options.batch, options.contexts, 1),
        ("prefill", [1], options.prompts, None),
    ):
        print(f"{kind}:\n")
        work = "bytes | time over floor" if kind == "decode" else "operations | speed"
        columns = "us | best us | best settings" if options.tune else f"us | {work} | SDPA's time | Flex's time"
        print(f"| shape | batch | context | {columns} |")
        print("|---" * (4 + columns.count("|")) + "|")
        for name, given in cases(options.shape, batches, lengths, queries):
            if options.tune:
                tune(name, given)
            else:
                report(name, given, bandwidth)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
