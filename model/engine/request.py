"""What is asked of the engine: a prompt cut into chunks, what each recalls for, and how to generate."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...store.errors import InvalidArgument
from ..checkpoint import Checkpoint
from ..layout import REFERENCE_TOKENS
from ..schedule import prompt_chunks, prompt_queries
from ..source import GenerationOptions, MemorySource
from .generation import Mailbox
from .recalls import Wish


@dataclass(eq=False)
class Request:
    """One generation that somebody waits for.

    Attributes:
        prefix: tokens before the memories' positions; empty without memories.
        chunks, queries: the prompt with its `<s>`, and what each chunk recalls for.
        source: where memories come from; None reads none.
        owner: whose request this is, for fairness.
        deadline: `time.monotonic()` after which nobody wants it; None is never.
        room: tokens that its context may come to.
        admitted: whether it has had its turn.
        early: what it wished for before that.
    """

    prefix: list[int]
    chunks: list[list[int]]
    queries: list[str]
    source: MemorySource | None
    options: GenerationOptions
    owner: str
    deadline: float | None
    room: int
    admitted: bool = False
    early: Wish | None = None
    mailbox: Mailbox = field(default_factory=Mailbox)
    submitted: float = field(default_factory=time.perf_counter)

    @property
    def start(self) -> int:
        """The position of the prompt's first token."""
        return len(self.prefix) + REFERENCE_TOKENS if self.source is not None else 0

    @property
    def slots(self) -> int:
        """Most slots that it pins: those of the present chunk and of the next."""
        return 2 * self.options.memories if self.source is not None else 0

    @property
    def ended(self) -> bool:
        """Whether it waits no more for its turn."""
        return self.admitted or self.mailbox.unwanted or self.late

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline


def request_of(
    checkpoint: Checkpoint,
    prompt: Sequence[int],
    query: str | None,
    source: MemorySource | None,
    options: GenerationOptions,
    owner: str,
    deadline: float | None,
    limit: int,
) -> Request:
    """A request for a prompt without its `<s>`, in a window of `limit` positions.

    Raises:
        InvalidArgument: the prompt is empty, or too long for the model's window.
    """
    if not prompt:
        raise InvalidArgument("the prompt is empty; give some text to go on from")
    tokens = [*checkpoint.bos, *prompt]
    chunks = prompt_chunks(tokens)
    reads = source is not None and options.memories > 0
    prefix = checkpoint.prefix if reads else []
    queries = prompt_queries(chunks, query, checkpoint.text) if reads else []
    request = Request(prefix, chunks, queries, source if reads else None, options, owner, deadline, 0)
    if request.start + len(tokens) > limit:
        raise InvalidArgument(
            f"the prompt needs {request.start + len(tokens)} positions, this model has {limit}; "
            "give a shorter one, or take a model with a larger window"
        )
    # The last token that is generated is never read.
    end = min(request.start + len(tokens) + options.max_tokens - 1, limit)
    request.room = len(prefix) + end - request.start
    return request
