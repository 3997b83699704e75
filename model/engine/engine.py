"""The engine: many sequences generate together, each step's tokens packed into one pass through the model.

Sequences join and leave at any step. Recall and loading run in a thread of their own (recalls.py): a sequence whose
next chunk has no memories yet misses steps, the others do not. What each gets equals what it would get alone
(reader.py), but for the rounding of sums of other shapes.
"""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from queue import Empty, SimpleQueue

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...store.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from ...store.types import Hit, Hits
from ..language_model import LanguageModel
from ..loading import context_limit
from ..pool.memory_pool import MemoryPool, PoolStats
from ..recall_weight import recall_bias
from ..sampling import choose
from ..source import GenerationOptions, MemorySource
from .decode_graphs import DecodeGraphs
from .fair_queue import FairQueue
from .generation import Generation
from .limits import EngineLimits
from .paged import Kernels, Paged, kernels_for
from .recalls import Recalls, Wish
from .request import Request, request_of
from .running import Running
from .step import Packed, Work

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What runs and waits now, and what was done since the start; see `PoolStats` for the pool."""

    running: int
    waiting: int
    steps: int
    tokens: int
    pool: PoolStats


class Engine:
    """Generates for any number of threads; nothing of a request is kept behind its end. `close` it in the end.

    `kernels` attend; None takes those for the model's device.
    """

    def __init__(
        self, model: LanguageModel, limits: EngineLimits | None = None, kernels: Kernels | None = None
    ) -> None:
        self.limits = limits or EngineLimits()
        self._language_model = model
        self._checkpoint = checkpoint = model.checkpoint
        self._model = checkpoint.model
        self._window = context_limit(self._model)
        form = checkpoint.form
        self.pool = MemoryPool(
            form,
            device=self._model.device,
            dtype=self._model.dtype,
            slots=self.limits.slots,
            ram_bytes=self.limits.ram_bytes,
        )
        self._context = Paged(
            layers=self._model.config.num_hidden_layers,
            memory_layers=checkpoint.layout.layers,
            kv_heads=form.kv_heads,
            head_size=form.head_size,
            rows=self.limits.running_max,
            tokens=self.limits.context_tokens_max,
            pool=self.pool,
            kernels=kernels or kernels_for(self.pool),
        )
        self._graphs: DecodeGraphs | None = None
        if self.limits.decode_graphs and self._context.static:
            self._graphs = DecodeGraphs(self._context, partial(_logits, self._model), self.limits.running_max)
        self._lock = threading.Lock()
        self._waiting: FairQueue[Request] = FairQueue()
        self._closed = False
        # Used by the engine's thread alone.
        self._running: list[Running] = []
        self._loaded: dict[Running, Wish] = {}
        self._rows = list(range(self.limits.running_max - 1, -1, -1))
        self._steps = 0
        self._tokens = 0
        self._news: SimpleQueue[Wish | None] = SimpleQueue()
        self._recalls = Recalls(self.pool, self._news.put)
        self._thread = threading.Thread(target=self._run, name="memory3-engine", daemon=True)
        self._thread.start()

    def generate(
        self,
        prompt: str | Sequence[int],
        source: MemorySource | None,
        *,
        options: GenerationOptions,
        owner: str = "",
        deadline: float | None = None,
    ) -> Generation:
        """Continue a prompt.

        Args:
            prompt: text, or the tokens of one without `<s>`.
            source: where its memories come from; None reads none.
            owner: whose request this is; owners take turns where requests wait.
            deadline: `time.monotonic()` after which the generation ends with DeadlineExceeded.

        Raises:
            InvalidArgument: the prompt is empty, or too long for the model or for this engine's limits.
            ResourceExhausted: too many wait already.
            Unavailable: the engine is closed.
        """
        tokens = self._checkpoint.encode(prompt) if isinstance(prompt, str) else prompt
        return self._submit(tokens, None, source, options, owner, deadline)

    def ask(
        self,
        question: str,
        source: MemorySource,
        *,
        options: GenerationOptions,
        owner: str = "",
        deadline: float | None = None,
    ) -> Generation:
        """Answer a question, put to the model in its own form; see `generate`."""
        return self._submit(self._language_model.question(question), question, source, options, owner, deadline)

    def stats(self) -> EngineStats:
        with self._lock:
            waiting = len(self._waiting)
        return EngineStats(len(self._running), waiting, self._steps, self._tokens, self.pool.stats())

    def close(self) -> None:
        """End what runs and waits with Unavailable, and stop the threads; returns when they have ended."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._news.put(None)
            self._thread.join()
            self._recalls.close()
            # What was loaded for those who are gone is let go.
            self._take_news()

    def _submit(
        self,
        prompt: Sequence[int],
        query: str | None,
        source: MemorySource | None,
        options: GenerationOptions,
        owner: str,
        deadline: float | None,
    ) -> Generation:
        request = request_of(self._checkpoint, prompt, query, source, options, owner, deadline, self._window)
        if request.room > self.limits.context_tokens_max or request.slots > self.limits.slots:
            raise InvalidArgument(
                f"this needs room for {request.room} tokens and {request.slots} memories, the engine has "
                f"{self.limits.context_tokens_max} and {self.limits.slots}; ask for less"
            )
        with self._lock:
            if self._closed:
                raise Unavailable("the engine is closed; ask one that runs")
            running = self.limits.running_max - len(self._rows)
            if running + len(self._waiting) >= self.limits.running_max + self.limits.waiting_max:
                raise ResourceExhausted(
                    f"{running} generations run and {len(self._waiting)} wait, the limits of this server; "
                    "try again in a moment"
                )
            self._waiting.put(owner, request)
        self._wake()
        return Generation(request.mailbox, self._wake)

    def _wake(self) -> None:
        self._news.put(None)

    def _run(self) -> None:
        while not self._closed:
            try:
                self._leave()
                self._admit()
                self._look_ahead()
                if not self._step():
                    self._wait()
                self._take_news()
            except Exception as error:
                # What a model or a device does amid a step concerns all that took part in it.
                _log.exception("a step of the engine failed")
                for running in list(self._running):
                    self._end(running, error)
        self._end_all(Unavailable("the engine was closed; ask again"))

    def _wait(self) -> None:
        """Wait for news, or for the next deadline."""
        with self._lock:
            requests = [*self._waiting.items(), *(running.request for running in self._running)]
        deadlines = [request.deadline for request in requests if request.deadline is not None]
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        try:
            self._note(self._news.get(timeout=timeout))
        except Empty:
            return

    def _take_news(self) -> None:
        try:
            while True:
                self._note(self._news.get_nowait())
        except Empty:
            return

    def _note(self, wish: Wish | None) -> None:
        """Take in memories that were loaded; of a sequence that has ended they are let go."""
        if wish is None:
            return
        running = wish.owner
        assert isinstance(running, Running)
        if running.ended:
            self.pool.release([slot for slot in wish.slots if slot is not None])
            return
        for name, seconds in wish.seconds.items():
            running.seconds[name] += seconds
        if wish.error is not None:
            self._end(running, wish.error)
        else:
            self._loaded[running] = wish

    def _leave(self) -> None:
        """End what nobody wants any more."""
        with self._lock:
            gone = [request for request in self._waiting.items() if request.mailbox.unwanted or request.late]
            if gone:
                self._waiting.remove(gone)
        for request in gone:
            request.mailbox.end(_late(request))
        for running in [running for running in self._running if running.request.mailbox.unwanted]:
            self._end(running, None)
        for running in [running for running in self._running if running.request.late]:
            self._end(running, _late(running.request))

    def _admit(self) -> None:
        """Give rows to those who wait, as far as there is room."""
        while True:
            with self._lock:
                request = self._waiting.peek()
                if request is None or not self._fits(request):
                    return
                self._waiting.pop()
                row = self._rows.pop()
            running = Running(request, row, self._checkpoint)
            self._running.append(running)
            self._context.open(row, request.room)
            request.admitted = True
            if request.source is not None:
                wish = running.wish(request.source, request.queries)
                wish.before = request.early
                self._recalls.ask(wish)

    def _look_ahead(self) -> None:
        """Wish for the memories of those who may have their turn when the present ones have ended."""
        with self._lock:
            waiting = self._waiting.first(self.limits.running_max)
        for request in waiting:
            if request.early is None and request.source is not None:
                request.early = Wish(request, request.source, request.queries, request.options.memories, early=True)
                self._recalls.ask(request.early)

    def _fits(self, request: Request) -> bool:
        present = [running.request for running in self._running]
        return (
            bool(self._rows)
            and request.room + sum(other.room for other in present) <= self.limits.context_tokens_max
            and request.slots + sum(other.slots for other in present) <= self.limits.slots
        )

    def _step(self) -> bool:
        """Run one step; False when no sequence has anything to run."""
        chosen = self._chosen()
        if not chosen:
            return False
        began = time.perf_counter()
        works = [work for running in chosen for work in running.works()]
        logits = self._forward(works, [running.row for running in chosen])
        ready = [number for number, running in enumerate(chosen) if not running.in_prompt]
        if len(ready) < len(chosen):
            logits = logits[ready]
        tokens = choose(logits, [chosen[number].sampler for number in ready])
        elapsed = time.perf_counter() - began
        self._steps += 1
        for running in chosen:
            running.seconds["model"] += elapsed
        for number, token in zip(ready, tokens, strict=True):
            self._advance(chosen[number], token)
        return True

    def _chosen(self) -> list[Running]:
        """Who takes part in a step: all who generate, and then prompts as far as the step has room."""
        generating, prompts, tokens = [], [], 0
        for running in list(self._running):
            if running.beginning and not self._begins(running):
                continue
            if not running.in_prompt:
                generating.append(running)
            elif tokens < self.limits.step_prompt_tokens_max:
                prompts.append(running)
                tokens += running.chunk_tokens
        return generating + prompts

    def _begins(self, running: Running) -> bool:
        """Begin a chunk, or else end the sequence with what went wrong; False when it takes no part in this step."""
        try:
            return self._begin(running)
        except Exception as error:
            self._end(running, error)
            return False

    def _begin(self, running: Running) -> bool:
        """Begin a chunk; False when its memories are not there yet."""
        source = running.request.source
        if source is None:
            running.begin(Hits([]), [])
            return True
        # It stays among the loaded until its slots are the sequence's own: whoever ends before lets go of them.
        wish = self._loaded.get(running)
        if wish is None:
            return False
        hits = wish.hits[0]
        # Recalled a while ago: one that was deleted since is not read.
        live = source.live(hits)
        codes = wish.codes or [b""] * len(hits)
        read = [
            (hit, slot, code)
            for hit, slot, code, there in zip(hits, wish.slots, codes, live, strict=True)
            if slot is not None and code is not None and there
        ]
        kept = [slot for _, slot, _ in read]
        self._context.read(running.row, kept, self._bias([hit for hit, _, _ in read]))
        dropped = [slot for slot in wish.slots if slot is not None and slot not in kept]
        self.pool.release(running.slots + dropped)
        running.slots = kept
        del self._loaded[running]
        running.begin(hits, [(hit, code) for hit, _, code in read])
        if len(wish.queries) > 1:
            self._recalls.ask(running.wish(source, wish.queries[1:], wish.hits[1:]))
        return True

    def _bias(self, read: Sequence[Hit]) -> list[float] | None:
        weight = self._checkpoint.layout.recall_weight
        if not weight or not read:
            return None
        return recall_bias(torch.tensor([hit.score for hit in read]), weight).tolist()

    @torch.inference_mode()
    def _forward(self, works: Sequence[Work], rows: Sequence[int]) -> Tensor:
        """Logits (sequences, vocabulary) behind what each row adds; its prefix is not the last of it."""
        # A step in which all decode has one work for each row, in the order of the rows.
        logits = None if self._graphs is None else self._graphs.logits(works)
        if logits is not None:
            return logits
        ordered = sorted(works, key=lambda work: not work.decodes)
        ends = accumulate(len(work.tokens) for work in ordered)
        last = {work.row: end - 1 for work, end in zip(ordered, ends, strict=True) if work.reads}
        return _logits(self._model, self._context.pack(ordered, [last[row] for row in rows]))

    def _advance(self, running: Running, token: int) -> None:
        self._tokens += 1
        reason = running.add(token)
        if reason is not None:
            running.finish(reason)
            self._end(running, None)
            return
        query = running.query
        if query is not None and running.request.source is not None:
            self._recalls.ask(running.wish(running.request.source, [query]))

    def _end(self, running: Running, error: BaseException | None) -> None:
        """Take a sequence out; its caller gets the error, or has got all events."""
        running.request.mailbox.end(error)
        running.ended = True
        self._running.remove(running)
        self._context.close(running.row)
        wish = self._loaded.pop(running, None)
        loaded: Iterable[int | None] = () if wish is None else wish.slots
        self.pool.release([*running.slots, *(slot for slot in loaded if slot is not None)])
        with self._lock:
            self._rows.append(running.row)

    def _end_all(self, error: Exception) -> None:
        with self._lock:
            waiting = self._waiting.items()
            self._waiting.remove(waiting)
        for request in waiting:
            request.mailbox.end(error)
        for running in list(self._running):
            self._end(running, error)


def _logits(model: PreTrainedModel, step: Packed) -> Tensor:
    """Logits (sequences, vocabulary) of a step; on a GPU nothing here waits for it."""
    logits: Tensor = model(
        input_ids=step.tokens,
        # Four dimensions: taken as it is, and not looked at.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=step.tokens.device),
        position_ids=step.positions,
        use_cache=False,
        step=step.attention,
        logits_to_keep=step.last,
    ).logits
    return logits[0]


def _late(request: Request) -> DeadlineExceeded | None:
    if request.mailbox.unwanted:
        return None
    return DeadlineExceeded("the deadline passed before the answer was complete; give it more time")
