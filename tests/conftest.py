"""Fixtures that several packages' tests share: a real small model with random weights, and a server that runs it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from memory3.client import Client
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server

# Without a GPU the kernels run in Triton's interpreter. Triton reads this once, when some library first imports it.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

CORPUS = """Mira Sandoval keeps bees on the roof of the old post office and sells their honey on Saturdays. Her brother
Tomas repairs clocks in the harbour; the ferry to the island leaves at nine. Question: who keeps bees? Answer: Mira."""


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small Llama with random weights and a byte-level tokenizer: all of a model but sense."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("random-model")
    LlamaForCausalLM(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory, random_model: str) -> Iterator[Embedded]:
    """One memory for all tests that share it; each works in a `collection` of its own."""
    with Embedded(tmp_path_factory.mktemp("shared"), model=random_model) as opened:
        yield opened


@pytest.fixture(scope="session")
def server(memory: Embedded) -> Iterator[Server]:
    """A real gRPC server on `memory`; without background writing, so that tests know what is cold."""
    with Server(memory, write_in_background=False) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def collection(memory: Embedded) -> Iterator[str]:
    """The name of an empty collection of the test's own."""
    name = f"test-{uuid4().hex[:12]}"
    memory.create_collection(name)
    yield name
    if name in {info.name for info in memory.list_collections()}:
        memory.drop_collection(name)


@pytest.fixture
def example_folder() -> Path:
    return Path(__file__).resolve().parents[1] / "examples" / "harbour"
