"""Numbers that are packed together come out as the tensors they were, each where a kernel may read it."""

import torch
from memory3.model.engine.transfer import Numbers, cut, packed

CPU = torch.device("cpu")


def test_what_is_packed_is_cut_out_again() -> None:
    arrays = [
        Numbers("q", [1 << 40, -2, 3], (1, 3)),
        Numbers("i", [7], (1,)),
        Numbers("i", [], (2, 0)),
        Numbers("f", [0.1, float("-inf"), -0.0, 1e-30, 2.5], (5,)),
        Numbers("i", range(-3, 3), (3, 2)),
    ]
    expected = [
        torch.tensor([[1 << 40, -2, 3]]),
        torch.tensor([7], dtype=torch.int32),
        torch.zeros(2, 0, dtype=torch.int32),
        torch.tensor([0.1, float("-inf"), -0.0, 1e-30, 2.5]),
        torch.tensor([[-3, -2], [-1, 0], [1, 2]], dtype=torch.int32),
    ]
    buffer = packed(arrays, CPU)
    for found, wanted in zip(cut(buffer, arrays), expected, strict=True):
        assert found.is_contiguous() and (found.numel() == 0 or (found.data_ptr() - buffer.data_ptr()) % 16 == 0)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_views_show_what_is_copied_into_the_buffer_later() -> None:
    arrays = [Numbers("i", [1, 2], (2,)), Numbers("f", [0.5], (1,))]
    buffer = packed(arrays, CPU)
    views = cut(buffer, arrays)
    buffer.copy_(packed([Numbers("i", [3, 4], (2,)), Numbers("f", [-7.0], (1,))], CPU))
    assert [view.tolist() for view in views] == [[3, 4], [-7.0]]
