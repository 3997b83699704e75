"""Cut a text into references: exact, consecutive slices of at most 128 tokens, ended where the text itself pauses.

The library `semantic-text-splitter` chooses the ends: it fills a piece with the largest units that fit (paragraphs,
then sentences, then words), so that a text becomes few references. Its time grows faster than the text when a text
has no such units (one word of a megabyte), therefore it is shown a window at a time. The last piece of a window is
cut where the window ends, not where the text pauses: it is dropped, and the next window starts with it.
"""

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

REFERENCE_TOKENS_MAX = 128
REFERENCE_CHARACTERS_MAX = 4096
"""Bounds a reference whose tokens are huge: long runs of spaces, or a word that the tokenizer does not know."""
WINDOW_CHARACTERS = 8192


class Splitter:
    """Cuts texts by one tokenizer. Build once, use often: it copies the tokenizer's vocabulary."""

    def __init__(self, tokenizer: Tokenizer | PreTrainedTokenizerFast, max_tokens: int = REFERENCE_TOKENS_MAX) -> None:
        from semantic_text_splitter import TextSplitter

        backend = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
        # A copy, because a tokenizer set to truncate would call every long text short enough.
        copy = Tokenizer.from_str(backend.to_str())
        copy.no_truncation()
        copy.no_padding()
        self._splitter = TextSplitter.from_huggingface_tokenizer(copy, max_tokens, trim=False)

    def split(self, text: str) -> list[str]:
        """Return slices that join to `text`; none for an empty text."""
        pieces: list[str] = []
        start = 0
        while start < len(text):
            window = text[start : start + WINDOW_CHARACTERS]
            cut: list[str] = self._splitter.chunks(window)
            if start + len(window) < len(text) and len(cut) > 1:
                cut = cut[:-1]
            pieces += [part for piece in cut for part in _bounded(piece)]
            start += sum(map(len, cut))
        return pieces


def split(
    text: str, tokenizer: Tokenizer | PreTrainedTokenizerFast, max_tokens: int = REFERENCE_TOKENS_MAX
) -> list[str]:
    """Cut one text; for many, keep a `Splitter`."""
    return Splitter(tokenizer, max_tokens).split(text)


def _bounded(piece: str) -> list[str]:
    size = REFERENCE_CHARACTERS_MAX
    return [piece[start : start + size] for start in range(0, len(piece), size)]
