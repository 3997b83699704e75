"""The kernels compile for real devices without one, fit them, and spill nothing, as docs/kernels.md says."""

import json
import os
import subprocess
import sys
from itertools import product

import pytest

pytest.importorskip("triton", reason="compiling kernels needs Triton (Linux only)")

SIZES = (64, 80, 128)
COMPILE = f"""
import dataclasses, json, torch
from memory3.bench.kernel_resources import measured
print(json.dumps([dataclasses.asdict(one) for _, _, one in measured({SIZES}, (torch.bfloat16,))]))
"""
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}
"""What one program can have (CUDA C programming guide, compute capabilities)."""


def test_the_kernels_compile_and_fit_their_devices() -> None:
    # Triton reads the variable at its import: in this process it may interpret already.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    kernels = {"decode_kernel", "join_kernel", "prefill_kernel", "selection_kernel"}
    kernels |= {"integers_kernel", "residual_kernel"}
    kernels |= {"forward_kernel", "query_gradient_kernel", "key_gradient_kernel"}
    assert {(one["kernel"], one["target"]) for one in found} == set(product(kernels, SHARED_BYTES))
    assert [one for one in found if one["cubin_bytes"] == 0 or one["shared"] > SHARED_BYTES[one["target"]]] == []
    assert [one for one in found if one["spilled"] > 0] == []
