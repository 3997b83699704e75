"""Undoing the rotation gives back what the projections gave.

Dimensions: `B` batch, `H` query heads, `G` KV heads, `T` tokens, `D` head size.
"""

from typing import Any

import pytest
import torch
from memory3.model.rotation import Rotation
from torch import Tensor

from .builders import FAMILIES, SCALED, projections, random_tokens
from .conftest import Load


@pytest.mark.parametrize("name", FAMILIES + SCALED)
def test_query_and_key_are_as_before_positions(name: str, load: Load) -> None:
    model = load(name).checkpoint.model
    tokens = torch.tensor([random_tokens(1, 140), random_tokens(2, 140)])
    positions = torch.arange(140)[None].expand_as(tokens)
    rotated: dict[int, tuple[Tensor, Tensor]] = {}

    class Recorder:
        def record(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
            del value
            rotated[layer] = query, key

    with torch.no_grad(), projections(model) as layers:
        model.base_model(input_ids=tokens, position_ids=positions, use_cache=False, recorder=Recorder())
    decoder: Any = model.base_model
    rotation = Rotation(decoder, decoder.layers[0].self_attn, torch.zeros(1), positions)
    assert sorted(layers) == sorted(rotated) == [0, 1, 2, 3]
    for layer, seen in layers.items():
        query, key = rotation.undo(*rotated[layer])
        assert (rotated[layer][1] - seen.key).abs().max() > 0.1, "nothing was rotated"
        torch.testing.assert_close(query, seen.query, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(key, seen.key, atol=1e-5, rtol=1e-5)
