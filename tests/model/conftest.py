"""Small models of every family, saved once and loaded once for all tests of the model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from memory3.model.language_model import LanguageModel
from memory3.model.layout import MemoryLayout
from transformers import PreTrainedModel

from .builders import plain, save

Load = Callable[..., LanguageModel]
"""`load("llama")` or `load("llama", layout)`."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two OpenMP threads beside another busy process wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a saved model by its name in `builders.config_of`."""
    folders: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in folders:
            folders[name] = save(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return of


@pytest.fixture(scope="session")
def load(saved: Callable[[str], Path]) -> Load:
    """A saved model, loaded as users load it; each layout once."""
    models: dict[tuple[str, MemoryLayout | None], LanguageModel] = {}

    def of(name: str, layout: MemoryLayout | None = None) -> LanguageModel:
        if (name, layout) not in models:
            models[name, layout] = LanguageModel.load(str(saved(name)), layout=layout)
        return models[name, layout]

    return of


@pytest.fixture(scope="session")
def plain_model(saved: Callable[[str], Path]) -> Callable[[str], PreTrainedModel]:
    """The same weights as Transformers itself runs them."""
    models: dict[str, PreTrainedModel] = {}

    def of(name: str) -> PreTrainedModel:
        if name not in models:
            models[name] = plain(saved(name))
        return models[name]

    return of
