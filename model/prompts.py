"""The texts that stand around knowledge and questions, the same in training, evaluation and use."""

REFERENCE_PREFIX = "Reference:"
"""Written before every reference, and before the context, after the token that begins a sequence (paper: prefix)."""

QUESTION = "Question: {question}\nAnswer:"
"""How a question is put to a model without a chat template."""

UNKNOWN = "I don't know."
"""What our own models answer when no memory has the answer."""
