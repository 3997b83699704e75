"""The packaged embedder is the published one, works offline, and is safe to share."""

import threading
from pathlib import Path

import numpy as np
import pytest
from memory3.model import embedder as module
from memory3.model.embedder import DEFAULT_DIMENSION, DEFAULT_EMBEDDER, Embedder
from memory3.store.errors import FailedPrecondition, NotFound


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load()


def test_vectors_have_the_promised_shape_and_length(embedder: Embedder) -> None:
    vectors = embedder.embed(["a bee", "", "wor" * 5_000])
    assert embedder.name == DEFAULT_EMBEDDER and embedder.dimension == DEFAULT_DIMENSION
    assert vectors.shape == (3, DEFAULT_DIMENSION) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert embedder.embed([]).shape == (0, DEFAULT_DIMENSION)


@pytest.mark.parametrize(("bfloat16", "within"), [(False, 1e-5), (True, 0.0)])
def test_the_same_text_has_the_same_vector_in_any_batch(bfloat16: bool, within: float) -> None:
    """To the bit with products of bfloat16, whose rounding would else make much of a difference in padding."""
    embedder = Embedder.load(bfloat16=bfloat16)
    texts = [f"house number {number} " * (number % 41 + 1) for number in range(80)]
    together = embedder.embed(texts)
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=within)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(embedder.embed([texts[n] for n in order]), together[order], rtol=0, atol=within)


def test_a_prompt_of_the_models_own_counts_as_what_it_is_padded_to() -> None:
    embedder = Embedder.load()
    alone = embedder._lengths(["a bee", "bees"])
    embedder._model.prompts = {"given": "look for this text: "}
    embedder._model.default_prompt_name = "given"
    assert embedder._lengths(["a bee", "bees"]) == [tokens + 5 for tokens in alone]


def test_products_of_bfloat16_give_the_vectors_of_float32() -> None:
    """In all dimensions, of length one and in float32; other vectors than those, or the switch would do nothing."""
    texts = [f"house number {number} " * (number % 7 + 1) for number in range(40)]
    exact, found = (Embedder.load(bfloat16=choice).embed(texts) for choice in (False, True))
    assert found.dtype == np.float32 and not np.array_equal(found, exact)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found, exact, atol=3e-3)
    assert np.sum(found * exact, axis=1).min() > 0.9999


@pytest.mark.parametrize(
    ("able", "taken"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "cpu_name": "AMD EPYC"}, False),
        ({}, False),
    ],
)
def test_a_cpu_that_is_quicker_at_it_multiplies_bfloat16(
    able: dict[str, object], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    exact = Embedder.load(bfloat16=False).embed(["a bee"])
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert np.array_equal(Embedder.load().embed(["a bee"]), exact) is not taken


def test_meaning_is_near(embedder: Embedder) -> None:
    question, right, wrong = embedder.embed(
        ["Who keeps bees?", "Mira is a beekeeper in the old town.", "The ferry leaves at nine."]
    )
    assert question @ right > question @ wrong + 0.3


def test_threads_get_their_own_answers(embedder: Embedder) -> None:
    texts = [f"text number {number}" for number in range(8)]
    expected = embedder.embed(texts)
    found: dict[int, np.ndarray] = {}

    def embed(index: int) -> None:
        found[index] = embedder.embed([texts[index]])[0]

    threads = [threading.Thread(target=embed, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.stack([found[index] for index in range(8)]), expected, atol=1e-5)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"not the published weights")
    with pytest.raises(FailedPrecondition, match="not the published weights"):
        module._verify(weights, module.DEFAULT_WEIGHTS_SHA256)


def test_a_folder_works_as_a_name(embedder: Embedder) -> None:
    folder = str(module._packaged_folder())
    other = Embedder.load(folder)
    assert other.name == folder
    np.testing.assert_array_equal(other.embed(["a bee"]), embedder.embed(["a bee"]))


def test_a_model_that_does_not_pad_works() -> None:
    """One that looks its vectors up token by token, with a tokenizer of another library."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "bees": 1, "honey": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    static = Embedder("static", SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=8)], device="cpu"))
    vectors = static.embed(["bees", "honey honey", "bees"])
    assert vectors.shape == (3, 8) and np.array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_an_unknown_name_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="give a folder or a hub name"):
        Embedder.load(str(tmp_path / "nothing"))
