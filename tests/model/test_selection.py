"""The selection rules equal slow direct implementations of their formulas, on what real layers project.

Dimensions: `N` references, `H` query heads, `G` KV heads, `T` tokens, `K` kept tokens, `D` head size.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory3.model.layout import MemoryLayout
from memory3.model.selection import RULES, WITHOUT_POSITIONS, keep
from memory3.model.writer import write_references
from torch import Tensor

from .builders import FAMILIES, SCALED, projections, random_tokens
from .conftest import Load

LAYERS = (0, 1, 3)
KEPT = 5
LENGTHS = (23, 4, 11, 1)
"""Tokens of the references in a batch; two are shorter than what is kept."""


def attention(query: Tensor, key: Tensor, valid: list[int], head: int, group: int) -> dict[tuple[int, int], float]:
    """Weight that each valid query i of one head gives each valid token j: no mask, no positions."""
    size = query.shape[-1]
    weights = {}
    for i in valid:
        powers = {
            j: math.exp(float((query[head, i].double() * key[group, j].double()).sum()) / math.sqrt(size))
            for j in valid
        }
        total = sum(powers.values())
        weights.update({(i, j): power / total for j, power in powers.items()})
    return weights


def slow_score(rule: str, query: Tensor, key: Tensor, value: Tensor, valid: list[int], group: int) -> dict[int, float]:
    """Score of every valid token of one reference for one KV head; query (H, T, D), key and value (G, T, D)."""
    if rule == "key_value_norm":
        return {
            j: math.sqrt(sum(float(x) ** 2 for x in key[group, j]))
            * math.sqrt(sum(float(x) ** 2 for x in value[group, j]))
            for j in valid
        }
    ratio = query.shape[0] // key.shape[0]
    received: dict[int, list[float]] = {j: [] for j in valid}
    for head in range(group * ratio, (group + 1) * ratio):
        for (_, j), weight in attention(query, key, valid, head, group).items():
            received[j].append(weight)
    if rule == "attention_sum":
        return {j: sum(weights) for j, weights in received.items()}
    greatest = {j: max(weights) for j, weights in received.items()}
    if rule == "attention_max":
        return greatest
    assert rule == "attention_max_value"
    return {j: weight * float(value[group, j].double().norm()) for j, weight in greatest.items()}


def batch(prefix: list[int]) -> tuple[Tensor, Tensor]:
    rows = [[*prefix, *random_tokens(seed, length)] for seed, length in enumerate(LENGTHS)]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [2] * (width - len(row)) for row in rows])
    column = torch.arange(width)[None]
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    return tokens, (column >= len(prefix)) & (column < lengths)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", FAMILIES + SCALED)
def test_a_rule_keeps_what_its_formula_says(name: str, rule: str, load: Load) -> None:
    """Scores come from the projections as hooks see them, before any rotation by position."""
    checkpoint = load(name).checkpoint
    tokens, valid = batch(checkpoint.prefix)
    with torch.no_grad():
        with projections(checkpoint.model) as layers:
            checkpoint.model.base_model(input_ids=tokens, use_cache=False)
        kept = write_references(checkpoint.model, tokens, valid, MemoryLayout(LAYERS, KEPT, rule))
    rotated: dict[int, Tensor] = {}

    class Recorder:
        def record(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
            del query, value
            rotated[layer] = key

    with torch.no_grad():
        checkpoint.model.base_model(input_ids=tokens, use_cache=False, recorder=Recorder())
    compared = 0
    for layer in LAYERS:
        seen = layers[layer]
        # A scaled rotation changes lengths; the rule without attention takes keys as they are kept.
        keys = rotated[layer] if rule == "key_value_norm" else seen.key
        for row in range(len(LENGTHS)):
            places = valid[row].nonzero()[:, 0].tolist()
            for group in range(2):
                scores = slow_score(rule, seen.query[row], keys[row], seen.value[row], places, group)
                ranked = sorted(places, key=lambda place: -scores[place])
                if len(ranked) > KEPT and scores[ranked[KEPT]] > 0.999 * scores[ranked[KEPT - 1]]:
                    continue  # near enough to count as equal
                expected = sorted(ranked[:KEPT])
                real = kept[layer].real[row, group]
                assert int(real.sum()) == len(expected)
                torch.testing.assert_close(kept[layer].key[row, group][real], rotated[layer][row, group][expected])
                torch.testing.assert_close(kept[layer].value[row, group][real], seen.value[row, group][expected])
                compared += 1
    assert compared >= 20


def test_all_rules_are_compared_and_those_with_attention_undo_positions() -> None:
    assert set(RULES) == {"attention_sum", "attention_max", "attention_max_value", "key_value_norm"}
    assert set(RULES) - {"key_value_norm"} == WITHOUT_POSITIONS


scores_and_valid = st.integers(1, 12).flatmap(
    lambda tokens: st.tuples(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0]), min_size=tokens, max_size=tokens),
        st.lists(st.booleans(), min_size=tokens, max_size=tokens),
    )
)


@settings(deadline=None)
@given(drawn=scores_and_valid, kept_tokens=st.integers(1, 15))
def test_kept_are_the_best_valid_tokens_in_the_order_of_the_text(
    drawn: tuple[list[float], list[bool]], kept_tokens: int
) -> None:
    """Also with ties, short references, and references of no valid token."""
    scores, valid = drawn
    indices, real = keep(torch.tensor([[scores]]), torch.tensor([valid]), kept_tokens)
    assert indices.shape == (1, 1, min(kept_tokens, len(scores)))
    chosen = indices[0, 0][real[0, 0]].tolist()
    count = min(kept_tokens, sum(valid))
    assert len(chosen) == count and chosen == sorted(set(chosen))
    assert all(valid[place] for place in chosen)
    best = sorted((score for score, is_valid in zip(scores, valid, strict=True) if is_valid), reverse=True)[:count]
    assert sorted((scores[place] for place in chosen), reverse=True) == best


def test_of_equal_tokens_the_first_is_kept() -> None:
    indices, _ = keep(torch.tensor([[[1.0, 3.0, 1.0, 1.0, 1.0]]]), torch.ones(1, 5, dtype=torch.bool), 3)
    assert indices.tolist() == [[[0, 1, 2]]]


def test_each_kv_head_keeps_tokens_of_its_own() -> None:
    scores = torch.tensor([[[1.0, 9.0, 8.0], [9.0, 1.0, 8.0]]])
    indices, _ = keep(scores, torch.ones(1, 3, dtype=torch.bool), 2)
    assert indices.tolist() == [[[1, 2], [0, 2]]]
