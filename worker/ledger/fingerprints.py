"""Fingerprints of texts, by column: to tell whether a million of them are the same million.

Sums of fingerprints do not depend on an order, so what was sorted, split and grouped can be compared
with what it was made from. They are no digests: nobody's intent is guarded against, only a defect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.texts import Texts

    Words = NDArray[np.uint64]

_WORD_BYTES = 8
_ODD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(_WORD_BYTES + 1)], np.uint64)
"""Of the first so many bytes of a word (on little-endian machines)."""


def fingerprints(texts: Texts) -> Words:
    """A number of 64 bits for each text, of its length and every byte of it.

    It is made of the text's words one after the other; the last one of eight bytes, where it is not
    full, overlaps the one before it.
    """
    offsets = np.frombuffer(texts.offsets, np.int32).astype(np.int64)
    starts, lengths = offsets[:-1], np.diff(offsets)
    prints = lengths.astype(np.uint64)
    if not len(prints):
        return prints
    # So many bytes more that a word can be read at the last one.
    data = np.frombuffer(b"".join((texts.data[: offsets[-1]], bytes(_WORD_BYTES))), np.uint8)
    words = np.ndarray((len(data) - _WORD_BYTES + 1,), np.uint64, data.data, 0, (1,))
    shortest, longest = int(lengths.min()), int(lengths.max())
    at = 0
    while at + _WORD_BYTES <= shortest:
        _mix(prints, words[starts + at])
        at += _WORD_BYTES
    if shortest == longest and at < longest and longest >= _WORD_BYTES:
        _mix(prints, words[starts + (longest - _WORD_BYTES)])
        return prints
    # Only what a text itself says counts: in another column it has other neighbours.
    last_words, masks = (
        np.maximum(lengths - _WORD_BYTES, 0),
        _MASKS[np.minimum(lengths, _WORD_BYTES)],
    )
    for begin in range(at, longest, _WORD_BYTES):
        word = words[starts + np.minimum(last_words, begin)] & masks
        mixed = prints.copy()
        _mix(mixed, word)
        np.copyto(prints, mixed, where=lengths > begin)
    return prints


def total(person_ids: Words, face_ids: Words, row_nos: NDArray[np.int64]) -> int:
    """The sum of fingerprints of rows, each of its person, its face and its number together."""
    rows = person_ids * _ODD
    _mix(rows, face_ids)
    _mix(rows, row_nos.view(np.uint64))
    return int(np.add.reduce(rows, dtype=np.uint64))


def _mix(words: Words, others: Words) -> None:
    """Take ``others`` into ``words``, in place."""
    words ^= others
    words *= _ODD
    words ^= words >> _SHIFT
