"""Products of bfloat16 in blocks give what the layer gives, whatever the number of rows, and few programs do it."""

import pytest
import torch
from memory3.bench.memory import memory_bytes
from memory3.model import bfloat16_linear as module
from memory3.model.bfloat16_linear import AMX_BLOCK_ROWS, BLOCK_ROWS, Bfloat16Linear, multiply_in_bfloat16
from torch import nn


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 40).requires_grad_(False)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, BLOCK_ROWS), (BLOCK_ROWS + 1,), (3, BLOCK_ROWS - 1)])
def test_it_is_the_layer_rounded(shape: tuple[int, ...], layer: nn.Linear) -> None:
    x = torch.randn(*shape, 96)
    got = Bfloat16Linear(layer)(x)
    exact = x.bfloat16().float() @ layer.weight.bfloat16().float().T + layer.bias.bfloat16().float()
    assert got.shape == (*shape, 40) and got.dtype == x.dtype
    # What was summed in float32 is rounded once, to 8 bits.
    torch.testing.assert_close(got, exact, rtol=2**-8, atol=1e-5)
    assert not torch.equal(got, layer(x))


def test_a_row_does_not_depend_on_the_others(layer: nn.Linear) -> None:
    """To the bit: the embedder counts on it."""
    x, rounded = torch.randn(BLOCK_ROWS + 9, 96), Bfloat16Linear(layer)
    assert torch.equal(rounded(x)[-4:], rounded(x[-4:]))


def test_with_amx_all_products_are_of_as_many_rows(layer: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any CPU: what hangs on the number of rows is seen on few of them."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    rounded, rows = Bfloat16Linear(layer), set()

    def multiply(x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        rows.add(len(x))
        return nn.functional.linear(x, *others)

    monkeypatch.setattr(module, "linear", multiply)
    for number in (1, AMX_BLOCK_ROWS, AMX_BLOCK_ROWS + 1, 3 * AMX_BLOCK_ROWS - 1):
        assert rounded(torch.randn(number, 96)).shape == (number, 40)
    assert rows == {AMX_BLOCK_ROWS}


def test_a_layer_without_bias() -> None:
    layer = nn.Linear(16, 8, bias=False)
    x = torch.randn(5, 16)
    torch.testing.assert_close(Bfloat16Linear(layer)(x), layer(x), rtol=0.05, atol=0.05)


def test_linear_layers_are_replaced_wherever_they_are(layer: nn.Linear) -> None:
    layers = nn.Sequential(layer, nn.GELU(), nn.Sequential(nn.LayerNorm(40), nn.Linear(40, 4)))
    multiply_in_bfloat16(layers)
    assert [type(one) for one in layers.modules() if isinstance(one, nn.Linear | Bfloat16Linear)] == 2 * [
        Bfloat16Linear
    ]
    assert layers(torch.randn(7, 96)).shape == (7, 4)


def test_rows_of_every_number_take_little_memory() -> None:
    """Multiplied as they come, they took a program for each number: 340 MB for these."""
    layer = Bfloat16Linear(nn.Linear(384, 1536).requires_grad_(False))
    layer(torch.randn(BLOCK_ROWS, 384))
    before = memory_bytes()["anonymous"]
    for rows in range(1, 2 * BLOCK_ROWS):
        layer(torch.randn(rows, 384))
    assert memory_bytes()["anonymous"] - before < 40 << 20
