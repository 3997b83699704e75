"""What may be missing or odd compiles too: the interpreter takes some Python that the compiler does not.

Common head sizes with everything given are compiled by tests/bench/test_kernel_resources.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="compiling kernels needs Triton (Linux only)")

NAMES = ("no-memories", "no-slots-at-all", "one-token-a-memory", "head-100-of-128", "strided", "chunks")
COMPILE = f"""
from unittest.mock import patch
import torch, triton
from attention_cases import ONE_QUERY, SEVERAL_QUERIES, inputs
from memory3.bench.kernel_resources import Compiled, NamedDevice
from memory3.kernels.gpu import decode, prefill

triton.runtime.driver.set_active(NamedDevice(90))
kernels = ((decode, "decode_kernel"), (decode, "join_kernel"), (prefill, "prefill_kernel"))
for module, name in kernels:
    setattr(module, name, Compiled(getattr(module, name)))
decode.split_tokens = lambda *_: 64
for case in [*ONE_QUERY, *SEVERAL_QUERIES]:
    if case.name in {NAMES}:
        given = inputs(case, "cpu").of(torch.bfloat16)
        attend = prefill.prefill if case in SEVERAL_QUERIES else decode.decode
        for mass in (False, True):
            attend(given.query, given.pages, given.slots, given.blocks, scale=given.scale, mass=mass)
print(*(len(getattr(module, name).results) for module, name in kernels))
"""


def test_odd_arguments_compile() -> None:
    # Triton reads the variable at its import: in this process it may interpret already.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = [str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, "-c", COMPILE]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["10", "10", "2"]
