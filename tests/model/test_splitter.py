"""Splitting is lossless, bounded and quick whatever the text, and ends pieces where a text pauses."""

import time
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.model import splitter as module
from memory3.model.splitter import REFERENCE_CHARACTERS_MAX, WINDOW_CHARACTERS, Splitter, split
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

PROSE = (
    "Mira Sandoval keeps bees on the roof of the old post office. She sells the honey on Saturdays, next to the "
    "fountain. Her brother Tomas, who repairs clocks, thinks that bees are overrated!\n\n"
)


@cache
def byte_tokenizer() -> Tokenizer:
    """A small byte-level BPE, the kind that decoders use."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([PROSE], trainer)
    return tokenizer


@cache
def splitter() -> Splitter:
    return Splitter(byte_tokenizer())


def tokens(text: str) -> int:
    return len(byte_tokenizer().encode(text, add_special_tokens=False))


PATHOLOGICAL = {
    "one word": "ab" * 500_000,
    "spaces": " " * 300_000,
    "newlines": "\n" * 300_000,
    "line ends": "\r\n" * 100_000,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 10_000,
    "combining marks": "e" + "\u0301" * 100_000,
    "no spaces": "好" * 100_000,
    "scripts": "你好世界。Привет, мир! مرحبا بالعالم " * 3_000,
    "short sentences": "a. " * 100_000,
    "nul": "\0" * 10_000,
}


@pytest.mark.parametrize("text", PATHOLOGICAL.values(), ids=PATHOLOGICAL.keys())
def test_pathological_text_is_cut_without_loss_in_linear_time(text: str) -> None:
    _, seconds_of_an_eighth = split_and_time(text[: len(text) // 8])
    pieces, seconds = split_and_time(text)
    assert "".join(pieces) == text
    assert all(pieces) and max(map(tokens, pieces)) <= 128
    # Were it quadratic it would take 64 times as long; against itself, because machines differ and are busy.
    assert seconds < 1 + 24 * seconds_of_an_eighth


def split_and_time(text: str) -> tuple[list[str], float]:
    started = time.process_time()
    pieces = splitter().split(text)
    return pieces, time.process_time() - started


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=2_000))
def test_any_text_is_cut_without_loss(text: str) -> None:
    pieces = splitter().split(text)
    assert "".join(pieces) == text
    assert all(0 < tokens(piece) <= 128 for piece in pieces)


def test_pieces_end_where_sentences_end() -> None:
    pieces = splitter().split(PROSE.replace("\n\n", " ") * 20)
    assert all(piece.rstrip().endswith((".", "!")) for piece in pieces)


def test_paragraphs_that_fit_together_share_a_piece() -> None:
    pieces = splitter().split("One fact. Another fact.\n\nA third.\n\nA fourth.")
    assert len(pieces) == 1


def test_a_heading_goes_with_what_it_heads() -> None:
    """A piece "# Title" alone once came first in every recall about its subject, and held no answer."""
    sentence = "Mira Sandoval keeps bees on the roof of the old post office. "
    text = "# Mira Sandoval\n\n" + sentence * 30 + "\n\n## Her bees\n\n" + sentence * 30
    pieces = splitter().split(text)
    assert "".join(pieces) == text and max(map(tokens, pieces)) <= 128
    assert pieces[0].startswith("# Mira Sandoval\n\nMira Sandoval keeps")
    assert any("## Her bees\n\nMira" in piece for piece in pieces)


def test_windows_do_not_show_in_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text is cut just as if the library had seen all of it at once."""
    text = PROSE * (3 * WINDOW_CHARACTERS // len(PROSE))
    in_windows = splitter().split(text)
    monkeypatch.setattr(module, "WINDOW_CHARACTERS", 10 * len(text))
    assert splitter().split(text) == in_windows


def test_neighbours_that_fit_together_are_one() -> None:
    text = PROSE * 10 + "## Hours\n\nShe is there at ten. " + PROSE * 10
    pieces = splitter().split(text)
    pairs = pairwise(pieces)
    assert not any(tokens(one) + tokens(other) <= 128 for one, other in pairs)


def test_a_tokenizer_that_truncates_is_not_believed() -> None:
    truncating = Tokenizer.from_str(byte_tokenizer().to_str())
    truncating.enable_truncation(16)
    pieces = split(PROSE * 4, truncating, max_tokens=64)
    assert max(map(tokens, pieces)) <= 64
    assert truncating.truncation is not None, "the caller's tokenizer was changed"


def test_a_word_that_is_one_token_is_bounded_in_characters() -> None:
    unknowing = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    pieces = split("x" * 20_000, unknowing)
    assert "".join(pieces) == "x" * 20_000
    assert max(map(len, pieces)) <= REFERENCE_CHARACTERS_MAX


def test_an_empty_text_has_no_pieces() -> None:
    assert splitter().split("") == []
