"""Steps in which every sequence decodes, over tensors that keep their places: on a GPU each is one CUDA graph.

Launching the kernels of such a step one by one takes longer than they run. So a step is padded to a bucket (sequences,
pages of the longest context, memories of each), all buckets have tensors of their own, and what runs over them is
captured once and replayed from then on. On a CPU it is called each time instead, over the same tensors.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...kernels.gpu.launch import power_of_two
from .paged import Paged, Room
from .step import Packed, Work
from .transfer import packed

_log = logging.getLogger(__name__)

GRAPHS_MAX = 64
"""Buckets that are kept; of more, the least recently used is dropped."""
_PAGES_MIN = 4
"""Contexts up to so many pages are not split between programs, so that fewer buckets lose nothing."""
_MEMORIES_MIN = 8

# PyTorch captures one graph at a time in a process, which may have several engines.
_capturing = threading.Lock()

Run = Callable[[Packed], Tensor]
"""From the packed tokens of a step to the logits (sequences, vocabulary) of its `last`."""


@dataclass(frozen=True, slots=True)
class _Static:
    """A bucket's numbers (bytes,) uint8 on the device, and what computes logits (sequences, vocabulary) from them."""

    buffer: Tensor
    replay: Callable[[], Tensor]


class DecodeGraphs:
    """Used by the engine's thread alone. It holds on to the tensors of store and pool, and ends with their engine.

    `run` only reads what lies on the device and waits for nothing. Where it cannot be captured, this is told once, and
    `logits` gives None from then on.
    """

    def __init__(self, store: Paged, run: Run, running_max: int) -> None:
        self._store = store
        self._run = run
        self._running_max = running_max
        # Least recently used first.
        self._steps: dict[Room, _Static] = {}
        self._capture: Callable[[Callable[[], Tensor]], Callable[[], Tensor]] = (
            _Capture(store.device) if store.device.type == "cuda" else lambda run: run
        )
        self._failed = False

    @torch.inference_mode()
    def logits(self, works: Sequence[Work]) -> Tensor | None:
        """Logits (sequences, vocabulary) of a step, good until the next one; None if it has to run without a graph."""
        if self._failed or not all(work.decodes for work in works):
            return None
        room = self._bucket(works)
        plan = self._store.decode_plan(works, room)
        numbers = packed(plan.arrays, self._store.device)
        static = self._steps.pop(room, None)
        if static is not None:
            static.buffer.copy_(numbers, non_blocking=True)
        else:
            if len(self._steps) >= GRAPHS_MAX:
                del self._steps[next(iter(self._steps))]
            buffer = numbers.to(self._store.device, non_blocking=True)
            try:
                static = _Static(buffer, self._capture(partial(self._run, self._store.over(plan, buffer))))
            except Exception:
                _log.warning("CUDA graphs cannot be made here; all steps run without them", exc_info=True)
                self._failed = True
                self._steps.clear()
                return None
        self._steps[room] = static
        return static.replay()[: len(works)]

    def _bucket(self, works: Sequence[Work]) -> Room:
        """The least bucket that has room for these."""
        room = self._store.room(works)
        return Room(
            min(power_of_two(room.sequences), self._running_max),
            max(_PAGES_MIN, power_of_two(room.pages)),
            max(_MEMORIES_MIN, power_of_two(room.memories)) if room.memories else 0,
        )


class _Capture:
    """Makes CUDA graphs that share their memory: one is replayed at a time, and its logits are read before the next."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What replays `run`; it runs once before, so that a step which runs twice must do what it does once.

        Raises:
            Exception: it cannot be captured, because it waits for the device or needs memory that is not there.
        """
        graph = torch.cuda.CUDAGraph()
        present = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(present)
        try:
            # This leaves the stream also where the capture fails; the one below does not.
            with _capturing, torch.cuda.stream(self._stream):
                # Outside of the graph: kernels are compiled at their first launch, and libraries take their memory.
                run()
                # Other threads go on to load memories meanwhile.
                with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                    logits = run()
        finally:
            present.wait_stream(self._stream)
        return partial(_replay, graph, logits)


def _replay(graph: torch.cuda.CUDAGraph, logits: Tensor) -> Tensor:
    graph.replay()
    return logits
