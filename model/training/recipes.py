"""The recipes that `memory3 train` knows by name."""

from .trainer import Recipe, Stage

RECIPES = {
    # For two CPU cores. Copying first, then facts in the context (stage 1 of the paper), then memories (stage 2).
    "tiny": Recipe(
        stages=(
            Stage("copy", minutes=3.5, copies=1.0, other_rate=6e-3),
            Stage("context-1", minutes=12, references=1, facts=(1, 4), copies=0.1, other_rate=4e-3),
            Stage("context-4", minutes=22, references=4, rows=10, other_rate=4e-3),
            Stage(
                "memory",
                minutes=72,
                references=40,
                rows=96,
                reads=5,
                kept_tokens=32,
                facts=(1, 9),
                context_share=0.12,
                decay=0.5,
                matrix_rate=2.5e-3,
                other_rate=2.5e-3,
                unknown=0.2,
            ),
        ),
    ),
}
