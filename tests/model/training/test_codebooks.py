"""Training codebooks: what is sampled of a model, for one table or for each layer's, and what that loses.

Dimensions: `L` memory layers, `Y` tables, `N` vectors, `D` head size.
"""

from random import Random

import pytest
import torch
from memory3.model.language_model import LanguageModel
from memory3.model.training.codebooks import Samples, errors, sample, train_codebooks
from memory3.store.errors import InvalidArgument

TEXT = "Mira Sandoval keeps bees on the roof of the old post office and sells their honey to Tomas in the harbour"


def texts(count: int) -> list[str]:
    """Texts of about one reference each."""
    random = Random(0)
    return [" ".join(random.choices(TEXT.split(), k=40)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def model(random_model: str) -> LanguageModel:
    return LanguageModel.load(random_model, stored="float32")


@pytest.mark.parametrize("each_layer", [False, True])
def test_every_layer_is_sampled(each_layer: bool, model: LanguageModel) -> None:
    told: list[tuple[int, int]] = []
    samples = sample(model, texts(160), 0, lambda done, total: told.append((done, total)), each_layer=each_layer)
    tables, kinds, count, size = samples.trained.shape
    # 144 references of 8 tokens and 2 heads; a table for both layers sees both layers' vectors.
    assert (tables, kinds, size) == ((2 if each_layer else 1), 2, 16)
    assert count == 144 * 8 * 2 * (1 if each_layer else 2)
    assert samples.held_out.shape[:2] == (2, 2) and samples.held_out.shape[2] == 16 * 8 * 2
    assert samples.references == 160 and told[-1] == (160, 160)


def test_what_is_sampled_is_what_the_model_writes(model: LanguageModel) -> None:
    """Keys are keys and values are values of their own layer; what is held out is not trained on."""
    given = texts(160)
    samples = sample(model, given, 0, lambda done, total: None, each_layer=True)
    written = [model.checkpoint.form.decode(value)[0].flatten(2, 3) for value in model.write(given)]
    for layer in range(2):
        for kind in range(2):
            every = torch.cat([part[layer, kind] for part in written])
            for vectors in (samples.trained[layer, kind, ::50], samples.held_out[layer, kind, ::10]):
                assert torch.cdist(vectors, every).amin(1).max() < 1e-3
    assert not torch.isin(samples.held_out[0, 0, :, 0], samples.trained[0, 0, :, 0]).all()


def test_the_seed_draws_the_references(model: LanguageModel) -> None:
    first, same, other = (
        sample(model, texts(160), seed, lambda done, total: None, each_layer=False).trained for seed in (0, 0, 1)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_too_few_references_are_refused(model: LanguageModel) -> None:
    with pytest.raises(InvalidArgument, match=r"5 references make \d+ vectors.*give more text"):
        sample(model, texts(5), 0, lambda done, total: None, each_layer=False)
    with pytest.raises(InvalidArgument, match=r"2048 entries.*give more text"):
        sample(model, texts(60), 0, lambda done, total: None, each_layer=False)


def test_tables_of_its_own_lose_less_where_layers_differ() -> None:
    """Two layers whose vectors lie apart: a table for both must share its entries out among them."""
    generator = torch.Generator().manual_seed(0)
    told: list[tuple[int, int]] = []
    directions = torch.randn(2, 2, 2, 6, generator=generator)
    each = torch.randn(2, 2, 1200, 2, generator=generator) @ directions
    held_out = torch.randn(2, 2, 300, 2, generator=generator) @ directions
    apart = train_codebooks(Samples(each, held_out, 1), 0, lambda done, total: None)
    shared = train_codebooks(
        Samples(each.transpose(0, 1).flatten(1, 2)[None], held_out, 1),
        0,
        lambda done, total: told.append((done, total)),
    )
    assert (apart.layers, shared.layers) == (2, 1) and apart.bits == shared.bits
    lost, together = (errors(Samples(each, held_out, 1), made) for made in (apart, shared))
    assert lost.keys < together.keys and lost.values < together.values
    assert told[-1] == (1000, 1000) and told == sorted(told)
