"""When a sequence recalls, and what for: chunks of 64 tokens, each with memories of its own (paper: inference).

Each chunk of the prompt recalls for its own text. The first generated chunk keeps the memories of the last chunk of the
prompt; then every 64 generated tokens are the next query. The paper recalls when the 64th token is there, and the model
waits. Here recall is asked for a few tokens before, with the 64 tokens that stand then, so that it is done in time.
"""

from collections.abc import Callable, Sequence

CHUNK_TOKENS = 64
RECALL_AHEAD = 8
"""Tokens before the end of a generated chunk at which the next one's memories are recalled; 0 is the paper's way."""


def prompt_chunks(tokens: Sequence[int]) -> list[list[int]]:
    """A prompt cut into the chunks that recall for themselves."""
    return [list(tokens[start : start + CHUNK_TOKENS]) for start in range(0, len(tokens), CHUNK_TOKENS)]


def prompt_queries(
    chunks: Sequence[Sequence[int]], query: str | None, text: Callable[[Sequence[int]], str]
) -> list[str]:
    """What each chunk of a prompt recalls for: its own text, or `query`, if given, where the prompt is one chunk."""
    return [query] if query is not None and len(chunks) == 1 else [text(chunk) for chunk in chunks]


def recalls_at(generated: int, ahead: int, tokens_max: int) -> bool:
    """Whether the next chunk's memories are recalled now that so many of at most `tokens_max` were generated."""
    return generated > 0 and generated + ahead < tokens_max and (generated + ahead) % CHUNK_TOKENS == 0


def begins_at(generated: int) -> bool:
    """Whether the token behind so many generated ones begins a chunk, and reads what was recalled for it."""
    return generated > 0 and generated % CHUNK_TOKENS == 0
