"""`memory3 eval`: how well a model answers from memories, from text in its context, and from neither."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from .connection import limit_threads
from .options import Json, ModelName, Target
from .output import counted, print_json, results

if TYPE_CHECKING:
    from ..cluster.examination import Result
    from ..model.evaluation.score import Share

_WAYS = {"memory": "memories", "text": "the same texts in the context", "none": "neither"}


def evaluate(
    exams: Annotated[
        list[Path] | None,
        typer.Argument(help="Exams in JSON; without one, generated questions on entities never trained on."),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, max=100_000, help="Generated questions with an answer.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the generated exam.")] = 2026,
    k: Annotated[int, typer.Option("--memories", "-k", min=1, max=64, help="Memories recalled for a question.")] = 5,
    model: ModelName = None,
    json: Json = False,
) -> None:
    """Measure exact match and refusals through the real store and retriever, and print them as a table."""
    settings = Target.of(None, None, None, model=model).settings
    limit_threads(settings.threads)
    from ..cluster.examination import examine
    from ..model.evaluation.exam import load_exam, unseen_worlds

    found = [load_exam(path) for path in exams] if exams else [unseen_worlds(questions, seed)]
    measured = []
    for exam in found:
        with counted(f"answering {exam.name}") as progress:
            result = examine(exam, model=settings.model, device=settings.device, memories=k, progress=progress)
        measured.append(result)
        if not json:
            results.print(_table(result))
            if result.scores["memory"].by_kind:
                results.print(_kinds(result))
    if json:
        print_json([_fields(result) for result in measured])


def _table(result: "Result") -> Table:
    exam = result.exam
    table = Table(
        title=f"{exam.name}: {len(exam.documents)} documents, {exam.answerable} questions with an answer, "
        f"{len(exam.questions) - exam.answerable} without; {result.memories} recalled, "
        f"the right document among them {result.found.value:.3f}"
    )
    for column in ("answered from", "exact match", "right refusals", "false refusals", "ms a question"):
        table.add_column(column, justify="left" if column == "answered from" else "right")
    for way, score in result.scores.items():
        table.add_row(
            _WAYS[way],
            _show(score.exact_match),
            _show(score.refused_rightly),
            _show(score.refused_falsely),
            f"{1000 * result.seconds[way]:.0f}",
        )
    return table


def _kinds(result: "Result") -> Table:
    """Exact match from memories by kind of entity."""
    table = Table(title="from memories, by kind")
    table.add_column("kind")
    table.add_column("right", justify="right")
    table.add_column("questions", justify="right")
    for kind, share in result.scores["memory"].by_kind.items():
        table.add_row(kind, f"{share.value:.3f}", str(share.total))
    return table


def _show(share: "Share") -> str:
    return f"{share.value:.3f} ± {share.margin:.3f}" if share.total else "–"


def _fields(result: "Result") -> dict[str, Any]:
    return {
        "exam": result.exam.name,
        "fingerprint": result.fingerprint,
        "documents": len(result.exam.documents),
        "questions": len(result.exam.questions),
        "answerable": result.exam.answerable,
        "memories": result.memories,
        "recall": result.found.value,
        "ways": {
            way: {
                "exact_match": score.exact_match.value,
                "right_refusals": score.refused_rightly.value,
                "false_refusals": score.refused_falsely.value,
                "seconds": result.seconds[way],
                "by_kind": {kind: share.value for kind, share in score.by_kind.items()},
            }
            for way, score in result.scores.items()
        },
    }
