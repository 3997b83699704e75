"""The embedder, the model and its engine of one process, loaded when first needed.

Reading and deleting need neither, so a command that only looks up a key does not wait for torch.
"""

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from ..model.embedder import DEFAULT_DIMENSION, DEFAULT_EMBEDDER, Embedder
from ..model.engine.limits import EngineLimits

if TYPE_CHECKING:
    from ..model.engine.engine import Engine
    from ..model.language_model import LanguageModel

T = TypeVar("T")


class Models:
    """The names of embedder and model, and behind them the things themselves."""

    def __init__(
        self,
        embedder: str | None = None,
        model: str | None = None,
        device: str = "cpu",
        limits: EngineLimits | None = None,
    ) -> None:
        self.embedder_name = embedder or DEFAULT_EMBEDDER
        self._model_name = model
        self._device = device
        self._limits = limits
        # One lock for all: two threads that import transformers at the same time may deadlock or find half a module.
        loading = threading.Lock()
        self._embedder = _Lazy(self._load_embedder, loading)
        self._language_model = _Lazy(self._load_language_model, loading)
        self._engine = _Lazy(self._make_engine, threading.Lock())

    @property
    def embedder(self) -> Embedder:
        return self._embedder.value

    @property
    def language_model(self) -> "LanguageModel":
        return self._language_model.value

    @property
    def engine(self) -> "Engine":
        """What generates for all callers together."""
        return self._engine.value

    @property
    def model_loaded(self) -> bool:
        return self._language_model.loaded

    @cached_property
    def dimension(self) -> int:
        """The embedder's; known without loading it for the packaged one."""
        return DEFAULT_DIMENSION if self.embedder_name == DEFAULT_EMBEDDER else self.embedder.dimension

    def close(self) -> None:
        """End all generations."""
        if self._engine.loaded:
            self._engine.value.close()

    def _load_embedder(self) -> Embedder:
        return Embedder.load(self.embedder_name, self._device)

    def _load_language_model(self) -> "LanguageModel":
        from ..model.language_model import LanguageModel

        return LanguageModel.load(self._model_name, device=self._device)

    def _make_engine(self) -> "Engine":
        from ..model.engine.engine import Engine

        return Engine(self.language_model, self._limits)


class _Lazy(Generic[T]):
    """A value made once, by the first who asks, while the others wait."""

    def __init__(self, make: Callable[[], T], lock: threading.Lock) -> None:
        self._make = make
        self._lock = lock
        self._made: list[T] = []

    @property
    def loaded(self) -> bool:
        return bool(self._made)

    @property
    def value(self) -> T:
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
