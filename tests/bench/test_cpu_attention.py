"""The benchmark of a CPU's decoding runs, and checks what it times."""

import sys

import pytest
import torch
from memory3.bench import cpu_attention


def test_it_prints_a_row_for_each_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cpu_attention, "ROUNDS", 1)
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["cpu_attention", "--batch", "1", "3", "--contexts", "70"])
    try:
        cpu_attention.main()
    finally:
        torch.set_num_threads(threads)
    rows = [
        line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(("| packaged", "| paper"))
    ]
    assert [row[:3] for row in rows] == [[f"| {name}", batch, "70"] for name in ("packaged", "paper") for batch in "13"]
    assert all(float(cell.strip(" |")) > 0 for row in rows for cell in row[3:])


def test_a_kernel_that_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = cpu_attention.inputs(4, 2, 8, 2, 70)
    cpu_attention.check(given, given.whole)
    monkeypatch.setattr(cpu_attention, "decode", lambda *_, out, **__: out.zero_())
    with pytest.raises(AssertionError):
        cpu_attention.check(given, given.whole)
