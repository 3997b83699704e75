"""Where the kernels run in these tests: compiled on a CUDA device, in Triton's interpreter where there is none."""

import pytest
import torch

triton = pytest.importorskip("triton", reason="the kernels' tests need Triton (Linux only)")
INTERPRETED: bool = triton.knobs.runtime.interpret
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("Triton was imported without TRITON_INTERPRET=1, and there is no CUDA device", allow_module_level=True)

DEVICE = "cpu" if INTERPRETED else "cuda"
# In the interpreter products of bfloat16 tiles are wrong, and rounding to it cuts off.
HALVES = [torch.float16] if INTERPRETED else [torch.float16, torch.bfloat16]
