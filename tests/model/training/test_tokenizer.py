"""The tokenizer spells a name alike wherever it stands, and a number digit by digit."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.model.training.tokenizer import BOS, EOS, PAD
from memory3.model.training.worlds import World
from transformers import PreTrainedTokenizerFast


def tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    encoded: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return encoded


def test_it_has_the_vocabulary_asked_for_and_its_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == 700
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == [BOS, EOS, PAD]
    assert [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [0, 1, 2]


def test_a_name_is_spelled_alike_at_the_start_and_within(tokenizer: PreTrainedTokenizerFast) -> None:
    world = World(2, "test")
    for _ in range(100):
        for question in world.passage().questions:
            name = question.answer
            if name[0].isalnum():
                alone, within = tokens(tokenizer, name), tokens(tokenizer, f"It is {name}")
                assert within[-len(alone) :] == alone, name


def test_digits_are_single_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    spelled = [str(tokenizer.decode([token])).strip() for token in tokens(tokenizer, "in 1987, 46,250 and 3.5 or x12")]
    assert [piece for piece in spelled if any(c.isdigit() for c in piece)] == list("198746250351" + "2")


@settings(deadline=None)
@given(st.text(max_size=30))
def test_texts_come_back_with_one_space_before(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Only texts that hold no special token's own name."""
    if not text or any(special in text for special in (BOS, EOS, PAD)):
        return
    assert tokenizer.decode(tokens(tokenizer, text)) == " " + text


def test_it_is_the_same_after_saving(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = "Mira Sandoval sold 46,250 jars in 1987."
    assert tokens(loaded, text) == tokens(tokenizer, text)
