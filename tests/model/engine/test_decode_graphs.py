"""Decode steps over tensors that keep their places give what steps of their own tensors give.

On a CPU nothing is captured: what a graph would replay is called instead, so that all but the capture is the same.
Where there is a CUDA device, graphs are captured and replayed as well.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from memory3.model.engine import decode_graphs
from memory3.model.engine.decode_graphs import DecodeGraphs
from memory3.model.engine.engine import Engine
from memory3.model.engine.paged import Kernels, Paged, PagedAttention, Room, gpu_kernels
from memory3.model.engine.step import Packed, Work
from memory3.model.key_values import KeyValueForm
from memory3.model.language_model import LanguageModel
from memory3.model.layout import MemoryLayout
from memory3.model.pool.memory_pool import MemoryPool
from memory3.model.source import GenerationOptions
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..builders import FAMILIES, SCALED
from ..conftest import Load
from .test_engine import LAYOUT, REQUESTS, SMALL, Found, endless, engine_of, prompt, read
from .test_paged import REFERENCE

# The last of them goes beyond the pages of the least bucket.
ASKED = [*REQUESTS, (prompt(13, 250), GenerationOptions(max_tokens=20, memories=7))]
MANY = replace(SMALL, running_max=6, waiting_max=20)
LAYERS, HEADS, GROUPS, SIZE = 2, 4, 2, 16

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")


def graphs_of(engine: Engine) -> DecodeGraphs:
    assert engine._graphs is not None
    return engine._graphs


def answers(engine: Engine, source: Found, requests: Sequence[tuple[str, GenerationOptions]] = ASKED) -> list[Any]:
    generations = [engine.generate(text, source, options=options) for text, options in requests]
    return [read(list(generation)) for generation in generations]


def alone(model: LanguageModel, source: Found) -> list[Any]:
    return [read(list(model.generate(text, source, options=options))) for text, options in ASKED]


@pytest.fixture
def model(load: Load) -> LanguageModel:
    return endless(load("llama", LAYOUT))


# The whole engine.


@pytest.mark.parametrize("weight", [0.0, 40.0])
def test_each_gets_what_it_would_get_alone_while_buckets_change(weight: float, model: LanguageModel) -> None:
    weighed = endless(model, layout=replace(LAYOUT, recall_weight=weight))
    source = Found(weighed)
    expected = alone(weighed, source)
    with engine_of(weighed, MANY, REFERENCE) as engine:
        assert answers(engine, source) == expected
        rooms = set(graphs_of(engine)._steps)
        assert {room.sequences for room in rooms} >= {1, 6} and {room.pages for room in rooms} == {4, 8}
        assert {room.memories for room in rooms} >= {8}
        # Buckets that are there are used again.
        assert answers(engine, source) == expected


@pytest.mark.parametrize("name", FAMILIES[1:])
def test_every_family_decodes_in_static_steps(name: str, load: Load) -> None:
    model = endless(load(name, LAYOUT))
    source, requests = Found(model), ASKED[:5]
    expected = [read(list(model.generate(text, source, options=options))) for text, options in requests]
    with engine_of(model, MANY, REFERENCE) as engine:
        assert answers(engine, source, requests) == expected
        assert graphs_of(engine)._steps


def test_a_step_that_runs_several_times_before_it_counts_changes_nothing(model: LanguageModel) -> None:
    """As a capture does: it runs first outside of the graph, with the numbers of the step that it is made for."""
    source = Found(model)
    captures = []

    def capture(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        captures.append(run)
        run()
        run()
        return run

    with engine_of(model, MANY, REFERENCE) as engine:
        graphs_of(engine)._capture = capture
        assert answers(engine, source) == alone(model, source)
        assert len(captures) == len(graphs_of(engine)._steps)


def test_where_a_capture_fails_all_steps_run_without(model: LanguageModel, caplog: pytest.LogCaptureFixture) -> None:
    source, tried = Found(model), []

    def capture(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        tried.append(run)
        run()
        if len(tried) == 3:
            raise RuntimeError("operation not permitted when stream is capturing")
        return run

    with caplog.at_level(logging.WARNING), engine_of(model, MANY, REFERENCE) as engine:
        graphs_of(engine)._capture = capture
        assert answers(engine, source) == alone(model, source)
        assert len(tried) == 3 and not graphs_of(engine)._steps
    assert [record.message for record in caplog.records] == [
        "CUDA graphs cannot be made here; all steps run without them"
    ]


def test_an_engine_may_do_without(model: LanguageModel) -> None:
    source = Found(model)
    with engine_of(model, replace(MANY, decode_graphs=False), REFERENCE) as engine:
        assert engine._graphs is None and answers(engine, source) == alone(model, source)
    # On a CPU steps need not keep their shapes.
    with engine_of(model) as engine:
        assert engine._graphs is None


@pytest.mark.parametrize("name", [*FAMILIES, *SCALED])
def test_nothing_in_a_static_step_waits_for_the_device(name: str, load: Load) -> None:
    """It could not be captured: no number is read back, none comes from the host, and no shape follows from numbers."""
    model = load(name, LAYOUT)
    watch = _Watch()

    def nothing(query: Tensor, *_: object, out: Tensor, **__: object) -> None:
        out.copy_(query)

    with engine_of(model, SMALL, Kernels(nothing, nothing)) as engine:

        def capture(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
            def watched() -> Tensor:
                with watch:
                    return run()

            return watched

        graphs_of(engine)._capture = capture
        list(engine.generate(prompt(1, 9), Found(model), options=GenerationOptions(max_tokens=4)))
    assert "index_put_" in watch.seen or "_index_put_impl_" in watch.seen
    assert watch.seen.isdisjoint({"_local_scalar_dense", "nonzero", "lift_fresh", "item", "equal", "masked_select"})


class _Watch(TorchDispatchMode):
    """Notes the names of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


# Single steps, over a store whose unused places hold NaN.


class Steps:
    """Two layers of attention, the second of which reads memories; a token has one query, key and value in both."""

    def __init__(self, kernels: Kernels, rows: int = 4) -> None:
        form = KeyValueForm(MemoryLayout((1,), kept_tokens=4, stored="float32"), GROUPS, SIZE)
        pool = MemoryPool(form, device=torch.device("cpu"), dtype=torch.float32, slots=6, ram_bytes=0)
        generator = torch.Generator().manual_seed(0)
        for part in (pool._slots.key, pool._slots.value):
            part.fill_(float("nan"))
            part[:, :5] = torch.randn(part[:, :5].shape, generator=generator)
        pool._slots.tokens[:5] = torch.tensor([4, 3, 1, 4, 2])
        self._tables = [torch.randn(50, heads, SIZE, generator=generator) for heads in (HEADS, GROUPS, GROUPS)]
        shape = {"layers": LAYERS, "kv_heads": GROUPS, "head_size": SIZE, "rows": rows, "tokens": 2_048}
        self.store = Paged(memory_layers=(1,), pool=pool, kernels=kernels, **shape)
        for part in (self.store._key, self.store._value):
            part.fill_(float("nan"))
        self.ran: list[Packed] = []
        self.graphs = DecodeGraphs(self.store, self.run, rows)

    def run(self, step: Packed) -> Tensor:
        self.ran.append(step)
        query, key, value = (table[step.tokens].transpose(1, 2) for table in self._tables)
        outs = [step.attention.attend(layer, query, key, value, 0.25) for layer in range(LAYERS)]
        return torch.cat([out[0, step.last].flatten(1) for out in outs], dim=1)

    def begin(self, row: int, past: int, slots: Sequence[int] = (), bias: Sequence[float] | None = None) -> None:
        """A sequence with so many tokens of context, and room for as many again."""
        self.store.open(row, 2 * past)
        self.store.read(row, slots, bias)
        for first in range(0, past, 64):
            tokens = [(row + n) % 50 for n in range(first, min(past, first + 64))]
            self.run(self.store.pack([Work(row, tokens, first, first, reads=True)], [0]))

    def plain(self, works: Sequence[Work]) -> Tensor:
        return self.run(self.store.pack(works, range(len(works))))

    def static(self, works: Sequence[Work]) -> Tensor:
        logits = self.graphs.logits(works)
        assert logits is not None
        return logits.clone()


def decoding(row: int, past: int, token: int) -> Work:
    return Work(row, [token], past, past, reads=True)


def begun(kernels: Kernels) -> tuple[Steps, list[int]]:
    """Three sequences: a long one, one that reads memories, one that reads weighed ones."""
    steps = Steps(kernels)
    steps.begin(0, 300)
    steps.begin(1, 63, [2, 0])
    steps.begin(2, 5, [4, 1, 3], [0.0, -1.5, -3.0])
    return steps, [300, 63, 5]


def test_a_padded_step_gives_what_the_step_alone_gives() -> None:
    steps, past = begun(REFERENCE)
    other, _ = begun(REFERENCE)
    for number in range(3):
        works = [decoding(row, past[row] + number, 7 * row + number) for row in range(3)]
        assert steps.static(works).isfinite().all()
        torch.testing.assert_close(steps.static(works), other.plain(works), rtol=0, atol=0)
    assert list(steps.graphs._steps) == [Room(4, 8, 8)]


def test_the_kernels_give_the_same_in_a_padded_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many splits as the bucket's bound asks for, most of which have nothing of a short context."""
    pytest.importorskip("triton", reason="the kernels need Triton (Linux only)")
    monkeypatch.setattr("memory3.kernels.gpu.decode.processors", lambda device: 64)
    kernels = Kernels(gpu_kernels(SIZE).decode, REFERENCE.prefill)
    steps, past = begun(kernels)
    other, _ = begun(REFERENCE)
    works = [decoding(row, past[row], 7 * row) for row in range(3)]
    torch.testing.assert_close(steps.static(works), other.plain(works), rtol=1e-4, atol=1e-5)


def test_who_fills_a_step_up_touches_nobodys_pages() -> None:
    steps, past = begun(REFERENCE)
    store = steps.store
    before = torch.stack([store._key, store._value])
    steps.static([decoding(1, past[1], 3), decoding(2, past[2], 4), decoding(0, past[0], 5)])
    after = torch.stack([store._key, store._value])
    written = {
        (int(page), int(place))
        for page, place in (before.eq(after) | (before.isnan() & after.isnan())).logical_not().any(5).any(3).any(1)
        .any(0).nonzero()
    }  # fmt: skip
    own = {(store._pages[row][past[row] // 64], past[row] % 64) for row in range(3)}
    nobody = store._pages[-1][0]
    assert written == own | {(nobody, 0)}
    assert nobody not in store._free and all(nobody not in pages for pages in store._pages[:-1])


def test_a_bucket_s_tensors_keep_their_places() -> None:
    steps, past = begun(REFERENCE)
    steps.ran.clear()
    for number in range(3):
        steps.static([decoding(row, past[row] + number, row + number) for row in range(3)])
        steps.static([decoding(1, past[1] + number, 1 + number)])
    places = [_places(step) for step in steps.ran]
    assert places[0] == places[2] == places[4] and places[1] == places[3] == places[5]
    assert set(places[0]).isdisjoint(places[1]) and len(set(places[0])) == 11
    attention = steps.ran[0].attention
    assert isinstance(attention, PagedAttention)
    # The numbers of the last step of three sequences.
    assert attention.parts[0][1].length.tolist() == [303, 66, 8, 1]
    assert attention.parts[0][1].slots.tolist()[1:] == [[2, 0] + [-1] * 6, [4, 1, 3] + [-1] * 5, [-1] * 8]
    assert attention.parts[0][1].length_max == 8 * 64


def _places(step: Packed) -> list[int]:
    attention = step.attention
    assert isinstance(attention, PagedAttention)
    [(_, blocks)] = attention.parts
    of_blocks = [blocks.first, blocks.queries, blocks.length, blocks.pages, blocks.slots]
    assert blocks.bias is not None
    tensors = [step.tokens, step.positions, step.last, attention.pages, attention.places, *of_blocks, blocks.bias]
    return [tensor.data_ptr() for tensor in tensors]


def test_memories_that_change_are_read_by_the_next_step_of_the_same_bucket() -> None:
    steps, past = begun(REFERENCE)
    other, _ = begun(REFERENCE)
    works = [decoding(row, past[row], 9) for row in (1, 2)]
    steps.static(works)
    for each in (steps, other):
        each.store.read(1, [3, 1, 4], [0.0, -2.0, 1.0])
        each.store.read(2, [], None)
    torch.testing.assert_close(steps.static(works), other.plain(works), rtol=0, atol=0)
    assert len(steps.graphs._steps) == 1


def test_a_bucket_is_made_once_and_the_longest_unused_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_graphs, "GRAPHS_MAX", 2)
    steps, past = begun(REFERENCE)
    made = []

    def capture(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        made.append(run)
        return run

    steps.graphs._capture = capture
    one, two, three = ([decoding(row, past[row], 1) for row in rows] for rows in ([2], [1, 2], [0, 1, 2]))
    for works, count in ((one, 1), (two, 2), (one, 2), (three, 3), (one, 3), (three, 3), (two, 4)):
        steps.static(works)
        assert len(made) == count
    assert len(steps.graphs._steps) == 2


def test_buckets_end_at_what_runs_at_most() -> None:
    steps = Steps(REFERENCE, rows=6)
    for row in range(6):
        steps.begin(row, 2)
    works = [decoding(row, 2, row) for row in range(6)]
    for count in range(1, 7):
        assert len(steps.static(works[:count])) == count
    # Rows without memories have no room for them.
    assert list(steps.graphs._steps) == [Room(1, 4, 0), Room(2, 4, 0), Room(4, 4, 0), Room(6, 4, 0)]


def test_a_step_that_reads_a_prompt_runs_without() -> None:
    steps, past = begun(REFERENCE)
    prompt_work = Work(1, [1, 2], past[1], past[1], reads=True)
    assert steps.graphs.logits([decoding(0, past[0], 1), prompt_work]) is None
    assert not steps.graphs._steps


# With a device.


@pytest.fixture
def on_device(saved: Callable[[str], Path]) -> LanguageModel:
    return endless(LanguageModel.load(str(saved("llama")), "cuda", layout=LAYOUT))


@on_cuda
def test_graphs_that_are_captured_give_what_steps_without_give(on_device: LanguageModel) -> None:
    """Memories are loaded meanwhile, by another thread, on a stream of its own."""
    source = Found(on_device)
    with engine_of(on_device, replace(MANY, decode_graphs=False)) as engine:
        expected = answers(engine, source)
    with engine_of(on_device, MANY) as engine:
        assert answers(engine, source) == expected
        assert len(graphs_of(engine)._steps) > 3 and not graphs_of(engine)._failed
        assert answers(engine, source) == expected


@on_cuda
def test_a_capture_that_fails_on_a_device_leaves_it_as_it_was(on_device: LanguageModel) -> None:
    source = Found(on_device)
    with engine_of(on_device, replace(MANY, decode_graphs=False)) as engine:
        expected = answers(engine, source)
    handle = on_device.checkpoint.model.register_forward_pre_hook(lambda *_: torch.cuda.current_stream().synchronize())
    with engine_of(on_device, MANY) as engine:
        assert answers(engine, source) == expected
        assert graphs_of(engine)._failed
    handle.remove()
    with engine_of(on_device, MANY) as engine:
        assert answers(engine, source) == expected
        assert graphs_of(engine)._steps
