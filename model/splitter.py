"""Cut a text into references: exact, consecutive slices of at most 128 tokens, ended where the text itself pauses.

The library `semantic-text-splitter` chooses the ends: it fills a piece with the largest units that fit (paragraphs,
then sentences, then words), so that a text becomes few references. Its time grows faster than the text when a text
has no such units (one word of a megabyte), therefore it is shown a window at a time. The last piece of a window is
cut where the window ends, not where the text pauses: it is dropped, and the next window starts with it.

A heading alone is found by every question about its subject and answers none, so it is joined to what follows it, and
that is cut again where it no longer fits. In the end neighbours that fit together are joined.
"""

import re

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

REFERENCE_TOKENS_MAX = 128
REFERENCE_CHARACTERS_MAX = 4096
"""Bounds a reference whose tokens are huge: long runs of spaces, or a word that the tokenizer does not know."""
WINDOW_CHARACTERS = 8192
HEADING_CHARACTERS_MAX = 120
_HEADING_TOKENS_STEP = 16
_SENTENCE_END = re.compile("[.!?…\u3002\uff01\uff1f][\"'\u201d\u2019)\\]]*$")
_LAST_PARAGRAPH = re.compile(r"\n\s*\n([^\n]+)\s*$")


class Splitter:
    """Cuts texts by one tokenizer. Build once, use often: it copies the tokenizer's vocabulary."""

    def __init__(self, tokenizer: Tokenizer | PreTrainedTokenizerFast, max_tokens: int = REFERENCE_TOKENS_MAX) -> None:
        backend = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
        # A copy, because a tokenizer set to truncate would call every long text short enough.
        self._tokenizer = Tokenizer.from_str(backend.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._max_tokens = max_tokens
        self._splitters: dict[int, TextSplitter] = {}

    def split(self, text: str) -> list[str]:
        """Return slices that join to `text`; none for an empty text."""
        pieces: list[str] = []
        start = 0
        while start < len(text):
            window = text[start : start + WINDOW_CHARACTERS]
            cut = self._cut(window, self._max_tokens)
            if start + len(window) < len(text) and len(cut) > 1:
                cut = cut[:-1]
            pieces += [part for piece in cut for part in _bounded(piece)]
            start += sum(map(len, cut))
        return self._neighbours_joined(self._headings_joined(_headings_apart(pieces)))

    def _cut(self, text: str, max_tokens: int) -> list[str]:
        if max_tokens not in self._splitters:
            made = TextSplitter.from_huggingface_tokenizer(self._tokenizer, max_tokens, trim=False)
            self._splitters[max_tokens] = made
        cut: list[str] = self._splitters[max_tokens].chunks(text)
        return cut

    def _headings_joined(self, pieces: list[str]) -> list[str]:
        joined: list[str] = []
        waiting = pieces[::-1]
        while waiting:
            piece = waiting.pop()
            if waiting and _is_heading(piece):
                piece, rest = self._with_heading(piece, waiting.pop())
                waiting += [rest] if rest else []
            joined.append(piece)
        return joined

    def _neighbours_joined(self, pieces: list[str]) -> list[str]:
        joined: list[str] = []
        tokens = 0  # at least as many as the last of `joined` has
        for piece in pieces:
            more = self._tokens(piece)
            if joined and tokens + more <= self._max_tokens and self._fits(joined[-1] + piece):
                joined[-1] += piece
                tokens += more
            else:
                joined.append(piece)
                tokens = more
        return joined

    def _with_heading(self, heading: str, text: str) -> tuple[str, str]:
        """Return the heading with as much of the text as fits, and the rest of the text."""
        if self._fits(heading + text):
            return heading + text, ""
        # In steps, so that few splitters are built.
        left = (self._max_tokens - self._tokens(heading)) // _HEADING_TOKENS_STEP * _HEADING_TOKENS_STEP
        first = self._cut(text, left)[0] if left > 0 else ""
        return (heading + first, text[len(first) :]) if self._fits(heading + first) else (heading, text)

    def _fits(self, text: str) -> bool:
        return len(text) <= REFERENCE_CHARACTERS_MAX and self._tokens(text) <= self._max_tokens

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))


def split(
    text: str, tokenizer: Tokenizer | PreTrainedTokenizerFast, max_tokens: int = REFERENCE_TOKENS_MAX
) -> list[str]:
    """Cut one text; for many, keep a `Splitter`."""
    return Splitter(tokenizer, max_tokens).split(text)


def _bounded(piece: str) -> list[str]:
    size = REFERENCE_CHARACTERS_MAX
    return [piece[start : start + size] for start in range(0, len(piece), size)]


def _headings_apart(pieces: list[str]) -> list[str]:
    """Cut a heading off the end of a piece, so that it can go with what it heads."""
    apart: list[str] = []
    for piece in pieces:
        last = _LAST_PARAGRAPH.search(piece, max(0, len(piece) - 2 * HEADING_CHARACTERS_MAX))
        at = last.start(1) if last and _is_heading(last[1]) else len(piece)
        apart += [part for part in (piece[:at], piece[at:]) if part]
    return apart


def _is_heading(piece: str) -> bool:
    line = piece.strip()
    return len(line) <= HEADING_CHARACTERS_MAX and "\n" not in line and not _SENTENCE_END.search(line)
