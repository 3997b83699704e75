"""`memory3 train-codec`: codebooks for a model, so that its key-values take about an eleventh of bfloat16's bytes."""

from pathlib import Path
from typing import Annotated

import typer

from ..store.errors import InvalidArgument
from .connection import limit_threads
from .options import Json, ModelName, Target
from .output import counted, print_json, results, table_of_fields
from .sources import Bad, documents_of_files, files_of


def train_codec(
    text: Annotated[
        list[Path], typer.Option(help="Files, or folders of them, as `memory3 add` takes; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for a copy of the model that stores key-values as rq14.")],
    model: ModelName = None,
    each_layer: Annotated[
        bool,
        typer.Option(
            "--each-layer", help="Tables of its own for each memory layer: less error, larger files, more time."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and texts give the same codebooks.")] = 0,
    json: Json = False,
) -> None:
    """Train the codec rq14 on keys and values that the model writes of your texts; the model itself stays as it is.

    Give texts such as it will store, about 2,000 references of them.
    """
    settings = Target.of(None, None, None, model=model).settings
    _check_out(out)
    texts = _texts(text)
    limit_threads(settings.threads)
    from ..model.language_model import LanguageModel
    from ..model.loading import model_folder
    from ..model.training.codebooks import errors, sample, save, train_codebooks

    writer = LanguageModel.load(settings.model, settings.device, stored="float32")
    with counted("writing references") as progress:
        samples = sample(writer, texts, seed, progress, each_layer=each_layer)
    with counted("training, in thousandths") as progress:
        codebooks = train_codebooks(samples, seed, progress)
    save(writer, model_folder(settings.model), codebooks, out)
    lost = errors(samples, codebooks)
    trained = LanguageModel.load(str(out), settings.device)
    fields = {
        "model": str(out),
        "fingerprint": trained.fingerprint,
        "references": samples.references,
        "vectors": samples.trained.shape[2],
        "bytes": trained.key_value_bytes,
        "error_keys": lost.keys,
        "error_values": lost.values,
    }
    if json:
        print_json(fields)
    else:
        results.print(table_of_fields(fields))
        results.print(f"try it: memory3 eval --model {out}")


def _check_out(out: Path) -> None:
    """Refuse a folder that holds something, before minutes are spent."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidArgument(f"{out} is there already; give a new folder")


def _texts(paths: list[Path]) -> list[str]:
    """All texts; one that cannot be read ends the command, because training on the rest would hide it."""
    texts = []
    for source in documents_of_files(files_of(paths)):
        if isinstance(source, Bad):
            raise InvalidArgument(f"{source.name}: {source.reason}")
        texts.append(source.document.text)
    if not texts:
        raise InvalidArgument(
            f"there is no text in {', '.join(map(str, paths))}; give .txt, .md, .html or .jsonl files"
        )
    return texts
