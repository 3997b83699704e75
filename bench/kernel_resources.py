"""What each kernel takes of a GPU, without one: registers, spilled bytes and shared memory, as the machine code says.

    python bench/kernel_resources.py [--sizes 64 80 128] [--dtypes bfloat16 float32]

The real launchers are called with tensors on the CPU. In the place of a device Triton is shown a name (sm_80, sm_90):
it compiles what would be launched there, with the same settings, and launches nothing.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
import triton
from memory3.bench.machine import machine_line
from memory3.kernels.blocks import BLOCK_QUERIES, PAGE_TOKENS, Blocks, Pages, Slots
from memory3.kernels.gpu import codes, decode, launch, prefill, selection, training
from torch import Tensor
from triton.backends.compiler import GPUTarget

TARGETS = (80, 90)
SIZES = (64, 80, 96, 128, 256)
HEADS, GROUPS, MEMORIES, KEPT, LENGTH = 8, 2, 5, 8, 1024
REFERENCE_TOKENS, RESIDUAL_BITS = 128, (14, 14, *[10] * 8)


@dataclass(frozen=True)
class Resources:
    """What a kernel takes; `registers` and `spilled` bytes are of one thread, `shared` bytes of a program."""

    kernel: str
    target: int
    warps: int
    registers: int
    spilled: int
    shared: int
    cubin_bytes: int


class NamedDevice:
    """All that Triton asks of a driver until it would launch."""

    def __init__(self, target: int) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.target, 32)

    def get_current_device(self) -> int:
        return self.target

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """Stands for a kernel in its module, and compiles it at each call in the place of launching it."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.results: list[Any] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def run(*arguments: object, **options: object) -> None:
            self.results.append(self.kernel.run(*arguments, grid=grid, warmup=True, **options))

        return run


def attention(dtype: torch.dtype, size: int, queries: int, length: int = LENGTH) -> tuple[Any, ...]:
    """The arguments of a kernel that attends: two blocks and everything that is optional."""

    def whole(*shape: int) -> Tensor:
        return torch.ones(*shape, dtype=torch.int32)

    pages = torch.empty(4, GROUPS, PAGE_TOKENS, size, dtype=dtype)
    slots = torch.empty(4, GROUPS, KEPT, size, dtype=dtype)
    blocks = Blocks(
        whole(2), whole(2), whole(2), whole(2, length // PAGE_TOKENS), whole(2, MEMORIES), torch.ones(2, MEMORIES),
        queries, length,
    )  # fmt: skip
    query = torch.empty(2 * queries, HEADS, size, dtype=dtype)
    return query, Pages(pages, pages), Slots(slots, slots, whole(4)), blocks


def attention_kernels(dtype: torch.dtype, size: int) -> Iterator[Any]:
    """Compiled kernels of decoding, of joining its splits, and of prefill."""
    one, joined, several = (
        Compiled(kernel) for kernel in (decode.decode_kernel, decode.join_kernel, prefill.prefill_kernel)
    )
    with (
        patch.object(decode, "split_tokens", return_value=LENGTH // 4),
        patch.object(decode, "decode_kernel", one),
        patch.object(decode, "join_kernel", joined),
        patch.object(prefill, "prefill_kernel", several),
    ):
        decode.decode(*attention(dtype, size, 1), scale=1.0, mass=True)
        prefill.prefill(*attention(dtype, size, BLOCK_QUERIES), scale=1.0, mass=True)
    yield from [*one.results, *joined.results, *several.results]


def writing_kernels(dtype: torch.dtype, size: int) -> Iterator[Any]:
    """Compiled kernels that select tokens, and that decode codes into slots."""
    best, integers, residual = (
        Compiled(kernel) for kernel in (selection.selection_kernel, codes.integers_kernel, codes.residual_kernel)
    )
    query = torch.empty(2, HEADS, REFERENCE_TOKENS, size, dtype=dtype)
    pool = torch.empty(1, 4, GROUPS, KEPT, size, dtype=dtype)
    slots = torch.zeros(3, dtype=torch.int32)
    planes = torch.zeros(3, 1, 2, GROUPS, KEPT, size, dtype=torch.uint8)
    tables = torch.zeros(1, 2, sum(1 << width for width in RESIDUAL_BITS), size, dtype=torch.float16)
    with (
        patch.object(selection, "selection_kernel", best),
        patch.object(codes, "integers_kernel", integers),
        patch.object(codes, "residual_kernel", residual),
    ):
        selection.select(query, query[:, :GROUPS], torch.ones(2, REFERENCE_TOKENS, dtype=torch.bool), 1.0, KEPT)
        codes.decode_integers_into(planes[..., : size // 2], planes[..., :2], 4, slots, pool, pool)
        codes.decode_residual_into(planes[..., :14], RESIDUAL_BITS, tables, slots, pool, pool)
    yield from [*best.results, *integers.results, *residual.results]


def training_kernels(dtype: torch.dtype, size: int) -> Iterator[Any]:
    """Compiled kernels of training: forwards, and the gradients of queries, of the context and of memories."""
    names = ("forward_kernel", "query_gradient_kernel", "key_gradient_kernel")
    query = torch.zeros(1, HEADS, 2 * KEPT, size, dtype=dtype, requires_grad=True)
    key = torch.zeros(1, GROUPS, 2 * KEPT, size, dtype=dtype, requires_grad=True)
    with ExitStack() as stack:
        kernels = [stack.enter_context(patch.object(training, n, Compiled(getattr(training, n)))) for n in names]
        mask = torch.zeros(1, GROUPS, 2 * KEPT)
        training.attend(query, key, key, scale=1.0, memory_key=key, memory_value=key, memory_mask=mask).sum().backward()
    yield from (result for kernel in kernels for result in kernel.results)


def resources(kernel: Any, target: int) -> Resources:
    registers, spilled = used(kernel.asm["cubin"])
    metadata = kernel.metadata
    return Resources(
        metadata.name, target, metadata.num_warps, registers, spilled, metadata.shared, len(kernel.asm["cubin"])
    )


def used(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack: kernels have no other use for one than to spill."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", said)[0]
    return int(registers), int(stack)


def measured(sizes: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> Iterator[tuple[int, torch.dtype, Resources]]:
    """All kernels for all targets."""
    assert not triton.knobs.runtime.interpret, "TRITON_INTERPRET is set: nothing would be compiled"
    for target in TARGETS:
        triton.runtime.driver.set_active(NamedDevice(target))
        with patch.object(launch, "capability", return_value=target):
            for size, dtype in product(sizes, dtypes):
                for kernels in (attention_kernels, writing_kernels, training_kernels):
                    yield from ((size, dtype, resources(kernel, target)) for kernel in kernels(dtype, size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    options = parser.parse_args()
    print(f"{machine_line()}, triton {triton.__version__}\n")
    print("| kernel | head size | dtype | device | warps | registers | spilled bytes | shared KB |")
    print("|---|---|---|---|---|---|---|---|")
    dtypes = tuple(getattr(torch, name) for name in options.dtypes)
    for size, dtype, one in measured(tuple(options.sizes), dtypes):
        name = str(dtype).removeprefix("torch.")
        print(
            f"| {one.kernel} | {size} | {name} | sm_{one.target} | {one.warps} | {one.registers} | {one.spilled} | "
            f"{one.shared / 1024:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
