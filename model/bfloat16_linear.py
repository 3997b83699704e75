"""Linear layers that multiply in bfloat16, on a CPU that is quicker at it: they take 0.6 to 0.7 of the time.

PyTorch's library for it (oneDNN) compiles a program for each number of rows that it meets and keeps a thousand of them:
half a gigabyte for an embedder, whose texts come in all lengths. So rows are multiplied in blocks of one size, and what
is left over in steps of a few. With AMX it also sums in another order for another number of rows, so that a row's
product would depend on what stands beside it: there all blocks are whole.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

BLOCK_ROWS = 256
_STEP_ROWS = 16
AMX_BLOCK_ROWS = 128
"""More would suit batches, fewer a single text."""


def multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 are quicker than those of float32 on this CPU. ARM's have not been tried.

    Intel's AVX-512 has instructions for them that are half as quick as those for float32; its AMX, and AMD's AVX-512,
    are quicker.
    """
    able = torch.cpu.get_capabilities()
    return _has_amx() or (bool(able.get("avx512_bf16")) and "intel" not in str(able.get("cpu_name")).lower())


def _has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def multiply_in_bfloat16(module: nn.Module) -> None:
    """Put a `Bfloat16Linear` in the place of each linear layer within a module."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Bfloat16Linear(child))
        else:
            multiply_in_bfloat16(child)


class Bfloat16Linear(nn.Module):
    """The linear layer given, its weights and what it multiplies rounded to bfloat16; it is not for training.

    Takes (…, inputs) of any float type and gives (…, outputs) in the same; sums are float32, rounded once in the end.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().bfloat16())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().bfloat16())
        self._block, self._step = (AMX_BLOCK_ROWS, AMX_BLOCK_ROWS) if _has_amx() else (BLOCK_ROWS, _STEP_ROWS)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        parts = [self._multiply(block) for block in rows.split(self._block)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return out.to(x.dtype).view(*x.shape[:-1], -1)

    def _multiply(self, rows: Tensor) -> Tensor:
        """Rows (up to a block, inputs) to (as many, outputs)."""
        missing = -len(rows) % self._step
        return linear(pad(rows, (0, 0, 0, missing)) if missing else rows, self.weight, self.bias)[: len(rows)]
