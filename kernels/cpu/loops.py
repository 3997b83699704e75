"""The loops of `decode`, compiled by Numba for the processor.

Below `attend` they are given whole arrays and places in them: to cut a part out takes as long as to work through it.

Dimensions: those of kernels/blocks.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ..blocks import PAGE_TOKENS

Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32] | npt.NDArray[np.int8]

_SUMS_IN_ANY_ORDER = {"reassoc", "contract", "nsz", "arcp"}
"""Not all of fast mathematics, which would take infinity and NaN for impossible."""


def compiled(function: Callable[..., None]) -> Any:
    """Have a function compiled when it is first called; the code is kept on the disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True, fastmath=_SUMS_IN_ANY_ORDER)(function)
    except RuntimeError:
        # Neither beside this file nor in the user's cache directory; `NUMBA_CACHE_DIR` could name another place.
        return njit(nogil=True, fastmath=_SUMS_IN_ANY_ORDER)(function)


@compiled
def attend(
    query: Floats,
    context_key: Floats,
    context_value: Floats,
    memory_key: Vectors,
    memory_value: Vectors,
    key_scales: Floats,
    value_scales: Floats,
    unscaled: Floats,
    real: Whole,
    first: Whole,
    length: Whole,
    pages: Whole,
    slots: Whole,
    bias: Floats,
    scale: np.float32,
    out: Floats,
    start: int,
    stop: int,
) -> None:
    """Items `start` to `stop` - 1, where item `c * G + g` is block c's query in all heads that share KV head g.

    Of a block all its items together, page by page: one page's KV heads lie behind each other. Arrays are those of
    `Pages`, `Slots` (`real` are its `tokens`) and `Blocks`; where there are no scales they are empty, as `unscaled` is.
    """
    groups = context_key.shape[1]
    ratio = query.shape[1] // groups
    room = slots.shape[1] * memory_key.shape[2] + pages.shape[1] * PAGE_TOKENS
    # Of the tokens that are read, memories first: scores, then their shares of the softmax.
    shares = np.empty((query.shape[1], room), np.float32)
    for block in range(start // groups, -(-stop // groups)):
        first_group, end_group = max(0, start - block * groups), min(groups, stop - block * groups)
        row, pages_read = first[block], -(-length[block] // PAGE_TOKENS)
        tokens = 0
        for memory in range(slots.shape[1]):
            slot = slots[block, memory]
            if slot >= 0:
                added = bias[block, memory]
                for group in range(first_group, end_group):
                    _score(
                        query, row, ratio, memory_key, key_scales, slot, group, real[slot], scale, added, shares, tokens
                    )
                tokens += real[slot]
        for page in range(pages_read):
            place, held = pages[block, page], min(length[block] - page * PAGE_TOKENS, PAGE_TOKENS)
            for group in range(first_group, end_group):
                _score(
                    query, row, ratio, context_key, unscaled, place, group, held, scale, np.float32(0), shares, tokens
                )
            tokens += held
        for head in range(first_group * ratio, end_group * ratio):
            _share(shares[head, :tokens])
            out[row, head] = 0
        tokens = 0
        for memory in range(slots.shape[1]):
            slot = slots[block, memory]
            if slot >= 0:
                for group in range(first_group, end_group):
                    _add(shares, tokens, ratio, memory_value, value_scales, slot, group, real[slot], out, row)
                tokens += real[slot]
        for page in range(pages_read):
            place, held = pages[block, page], min(length[block] - page * PAGE_TOKENS, PAGE_TOKENS)
            for group in range(first_group, end_group):
                _add(shares, tokens, ratio, context_value, unscaled, place, group, held, out, row)
            tokens += held


@compiled
def _score(
    query: Floats,
    row: int,
    ratio: int,
    keys: Vectors,
    scales: Floats,
    place: int,
    group: int,
    tokens: int,
    scale: np.float32,
    added: np.float32,
    scores: Floats,
    at: int,
) -> None:
    """Write, from place `at` on, the scores of a query's heads of one group and the keys of one page or slot."""
    for token in range(tokens):
        factor = scale * scales[place, group, token] if scales.size else scale
        for head in range(group * ratio, (group + 1) * ratio):
            total = np.float32(0)
            for d in range(keys.shape[3]):
                total += query[row, head, d] * np.float32(keys[place, group, token, d])
            scores[head, at + token] = total * factor + added


@compiled
def _share(scores: Floats) -> None:
    """Make scores (T,) into shares of one softmax."""
    greatest = scores.max()
    total = np.float32(0)
    for token in range(len(scores)):
        scores[token] = np.exp(scores[token] - greatest)
        total += scores[token]
    for token in range(len(scores)):
        scores[token] /= total


@compiled
def _add(
    shares: Floats,
    at: int,
    ratio: int,
    values: Vectors,
    scales: Floats,
    place: int,
    group: int,
    tokens: int,
    out: Floats,
    row: int,
) -> None:
    """Add to a query's heads of one group the values of one page or slot, by the shares from place `at` on."""
    for head in range(group * ratio, (group + 1) * ratio):
        if scales.size:
            for token in range(tokens):
                shares[head, at + token] *= scales[place, group, token]
        # Four at a time, because each time the sums are loaded and stored.
        fours = tokens // 4 * 4
        for token in range(0, fours, 4):
            a, b = shares[head, at + token], shares[head, at + token + 1]
            c, e = shares[head, at + token + 2], shares[head, at + token + 3]
            for d in range(values.shape[3]):
                out[row, head, d] += (
                    a * np.float32(values[place, group, token, d])
                    + b * np.float32(values[place, group, token + 1, d])
                    + c * np.float32(values[place, group, token + 2, d])
                    + e * np.float32(values[place, group, token + 3, d])
                )
        for token in range(fours, tokens):
            share = shares[head, at + token]
            for d in range(values.shape[3]):
                out[row, head, d] += share * np.float32(values[place, group, token, d])
