"""From tokens to text that may be shown: whole characters only, and nothing that may yet become a stop string."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast


class TextStream:
    """Turns tokens into pieces of text as they come.

    Attributes:
        stopped: whether a stop string was met; it and all behind it is dropped.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stop = tuple(stop)
        self._held = ""
        self._begun = False
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that can be shown now; empty while a character or a stop string is incomplete."""
        self._held += self._decoder.step(self._tokenizer, token) or ""
        found = [place for place in (self._held.find(stop) for stop in self._stop) if place >= 0]
        if found:
            self.stopped = True
            self._held = self._held[: min(found)]
            return self.flush()
        return self._shown(len(self._held) - max((self._overlap(stop) for stop in self._stop), default=0))

    def flush(self) -> str:
        """All that is still held."""
        return self._shown(len(self._held))

    def _shown(self, characters: int) -> str:
        """Let go of the first `characters` that are held."""
        shown, self._held = self._held[:characters], self._held[characters:]
        if not self._begun:
            # The space that begins a word is no part of an answer that begins with that word.
            shown = shown.lstrip()
            self._begun = bool(shown)
        return shown

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        return next((n for n in range(min(len(stop) - 1, len(self._held)), 0, -1) if self._held.endswith(stop[:n])), 0)
