"""What the benchmark of kernels compares is the same attention, and without a GPU it says that it needs one."""

import os
import subprocess
import sys

import pytest
import torch
from memory3.bench.kernel_inputs import KEPT, MEMORIES, Shape, check, dense, inputs, seen
from memory3.kernels.reference import attend_blocks
from torch.nn.functional import scaled_dot_product_attention


@pytest.mark.parametrize(("length", "queries"), [(70, 1), (150, 150), (150, 70)], ids=["decode", "prompt", "chunk"])
def test_peers_get_the_same_keys_and_masks(length: int, queries: int) -> None:
    given = inputs(Shape(4, 2, 16), 3, length, queries, "cpu")
    out, _ = attend_blocks(given.query, given.pages, given.slots, given.blocks, scale=given.scale)
    query, key, value = (one.float() for one in dense(given))
    assert key.shape == (3, 2, MEMORIES * KEPT + length, 16)
    peer = scaled_dot_product_attention(query, key, value, seen(given, "cpu"), scale=given.scale, enable_gqa=True)
    torch.testing.assert_close(out.float(), peer.transpose(1, 2).flatten(0, 1), atol=0.02, rtol=0.01)
    check(given, out)
    with pytest.raises(AssertionError, match="off by"):
        check(given, out * 1.05)


def test_bytes_and_operations_are_those_of_the_shape() -> None:
    given = inputs(Shape(4, 2, 16), 3, 100, 1, "cpu")
    keys = 3 * (100 + MEMORIES * KEPT) * 2 * 16
    assert given.bytes_moved == 2 * (2 * keys + 2 * 3 * 4 * 16)
    assert given.operations == 4 * 3 * 4 * 16 * (100 + MEMORIES * KEPT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    code = "import sys; from memory3.bench.kernels import main; sys.argv = ['kernels.py']; sys.exit(main())"
    ran = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2 and "GPU" in ran.stderr
