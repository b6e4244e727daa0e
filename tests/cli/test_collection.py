from __future__ import annotations

import gc
import weakref

from worker.cli.collection import collecting_what_calls_leave


class Knot:
    """A cycle that only the collector can undo."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_there_before_is_not_looked_at_and_what_comes_is_collected() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with collecting_what_calls_leave():
        assert gc.get_freeze_count() > frozen + 1000
        left = weakref.ref(Knot())
        gc.collect()
        assert left() is None
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_what_calls_leave_is_collected_without_being_asked_for() -> None:
    with collecting_what_calls_leave():
        left = weakref.ref(Knot())
        kept = [Knot() for _ in range(100_000)]
    assert kept
    assert left() is None
