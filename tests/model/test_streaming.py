"""Text comes in whole characters, never shows what may become a stop string, and loses nothing."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memory3.model.streaming import TextStream

from .builders import tokenizer_of

TOKENIZER = tokenizer_of()
VOCABULARY = len(TOKENIZER)


def tokens_of(text: str) -> list[int]:
    tokens: list[int] = TOKENIZER.encode(text, add_special_tokens=False)
    return tokens


def streamed(tokens: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    """The pieces shown, the last by `flush`, until a stop string is met."""
    stream = TextStream(TOKENIZER, stop)
    pieces = []
    for token in tokens:
        pieces.append(stream.add(token))
        if stream.stopped:
            break
    return [*pieces, stream.flush()], stream


@settings(deadline=None)
@given(st.text(max_size=40))
@example("Mira 🐝 sells 蜂蜜 for 5 €")
@example("👩‍👩‍👧‍👦")
@example("\ufffd broken")
def test_pieces_join_to_the_text(text: str) -> None:
    pieces, _ = streamed(tokens_of(text))
    assert "".join(pieces) == text.lstrip()


def test_a_character_of_several_tokens_is_shown_once_it_is_whole() -> None:
    tokens = tokens_of("🐝!")
    assert len(tokens) == 5
    pieces, _ = streamed(tokens)
    assert pieces == ["", "", "", "🐝", "!", ""]


@settings(deadline=None)
@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=40))
def test_any_tokens_can_be_shown(tokens: list[int]) -> None:
    """Also bytes that are no text, and special tokens: as a whole decoding shows them, but for an unfinished end."""
    pieces, _ = streamed(tokens)
    whole = TOKENIZER.decode(tokens, skip_special_tokens=True)
    assert isinstance(whole, str)
    assert "".join(pieces).rstrip("\ufffd") == whole.lstrip().rstrip("\ufffd")


def test_special_tokens_are_not_shown() -> None:
    assert "".join(streamed([0, *tokens_of("bees"), 1, 2])[0]) == "bees"


@pytest.mark.parametrize("stop", ["roof", "of the", "\n\n", "f", "the old roof and", "Zoo"])
def test_a_stop_string_and_what_follows_is_dropped(stop: str) -> None:
    """Wherever the borders of its tokens lie."""
    text = "bees on the roof of the old roof and\n\nhoney"
    for tokens in (tokens_of(text), [token for character in text for token in tokens_of(character)]):
        pieces, stream = streamed(tokens, (stop,))
        assert "".join(pieces) == text.split(stop)[0]
        assert stream.stopped == (stop in text)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stream = TextStream(TOKENIZER, ("STOP",))
    assert [stream.add(*tokens_of(character)) for character in "aSTxSTO"] == ["a", "", "", "STx", "", "", ""]
    assert not stream.stopped
    assert stream.flush() == "STO"
    assert stream.flush() == ""


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(alphabet="ab \n", max_size=20),
    stop=st.lists(st.text(alphabet="ab \n", min_size=1, max_size=4), max_size=3).map(tuple),
)
@example(text="\nbees", stop=("\n",))
@example(text=" a", stop=(" a",))
def test_stop_strings_end_the_text_at_the_first_that_is_complete(text: str, stop: tuple[str, ...]) -> None:
    """Also at the very start, where a leading space is not shown but still counts."""
    pieces, stream = streamed([token for character in text for token in tokens_of(character)], stop)
    expected = text
    for end in range(1, len(text) + 1):
        found = [place for place in (text[:end].find(s) for s in stop) if place >= 0]
        if found:
            expected = text[: min(found)]
            break
    assert "".join(pieces) == expected.lstrip()
    assert stream.stopped == any(s in text for s in stop)


def test_the_space_that_begins_an_answer_is_not_shown() -> None:
    pieces, _ = streamed(tokens_of(" Mira keeps"))
    assert "".join(pieces) == "Mira keeps"
    assert pieces[0]
