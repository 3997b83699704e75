"""A small tokenizer of the recipe's kind, trained once for all tests of training."""

import pytest
from memory3.model.training.tokenizer import train_tokenizer
from memory3.model.training.worlds import World
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    world = World(1, "train")
    passages = [world.passage() for _ in range(300)]
    return train_tokenizer((f"{p.text}\n{q.text}" for p in passages for q in p.questions), 700)
