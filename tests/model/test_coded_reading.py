"""What is read of coded memories: nearly what is read of the exact ones, the nearer the more bits are kept.

Dimensions: `T` tokens, `V` vocabulary.
"""

import pytest
import torch
from memory3.model.context import Context
from memory3.model.layout import REFERENCE_TOKENS, MemoryLayout
from torch import Tensor

from .builders import CORPUS, FAMILIES, random_tokens
from .conftest import Load

# Most of what reading changes about the logits that may be lost to the code.
LOST_MAX = {"bfloat16": 0.02, "int8": 0.05, "int4": 0.5}


def logits(load: Load, name: str, stored: str, memories: bool = True) -> Tensor:
    """Logits (T, V) of a context that reads two memories."""
    model = load(name, MemoryLayout((0, 1, 2), 12, "key_value_norm", stored=stored))
    checkpoint = model.checkpoint
    values = model.write([CORPUS[:110], CORPUS[110:]])
    read = checkpoint.form.layers(values, checkpoint.model.device, checkpoint.model.dtype) if memories else None
    context = Context(checkpoint.model)
    context.extend(checkpoint.prefix)
    context.skip(REFERENCE_TOKENS)
    return torch.stack([context.extend([token], read) for token in random_tokens(3, 12)])


@pytest.mark.parametrize("name", FAMILIES)
def test_coded_memories_are_read_nearly_as_exact_ones(name: str, load: Load) -> None:
    exact = logits(load, name, "float32")
    effect = (exact - logits(load, name, "float32", memories=False)).norm()
    lost = {stored: float((logits(load, name, stored) - exact).norm() / effect) for stored in LOST_MAX}
    assert all(0 < lost[stored] < most for stored, most in LOST_MAX.items()), lost
    assert lost["int8"] < lost["int4"]
