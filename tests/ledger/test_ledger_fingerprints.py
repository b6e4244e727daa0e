"""Fingerprints of texts are theirs alone, whatever other texts they stand among."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from worker.ledger.fingerprints import fingerprints
from worker.texts import Texts

LENGTHS = st.sampled_from([0, 1, 7, 8, 9, 15, 16, 17, 24, 25, 32])
TEXTS = LENGTHS.flatmap(lambda length: st.text("ab0脸", min_size=length, max_size=length))


@given(st.lists(TEXTS, min_size=1, max_size=6), st.lists(TEXTS, max_size=2))
@example(["a"], [])
@example(["00000000a", "00000000b", "0"], [])
@example(["00000000a", "00000000b"], [])
def test_a_text_has_the_same_fingerprint_in_every_column(
    texts: list[str], before: list[str]
) -> None:
    """A plan's texts are read in one column and written in others."""
    column = Texts.of([*before, *texts, "behind"]).part(len(before), len(before) + len(texts))
    alone = [int(fingerprints(Texts.of([text]))[0]) for text in texts]
    assert [int(number) for number in fingerprints(column)] == alone
    assert len(set(alone)) == len(set(texts))
