"""The input's other columns, on their way to the report untouched."""

from __future__ import annotations

from collections.abc import Iterable

from worker.sources.place import Place

MAX_NAMES = 2000
"""More distinct names than this are data in the place of names: the report has a column for each."""

MAX_NAME_CHARACTERS = 1000


class CarriedNames:
    """The distinct names of other columns, in order of first appearance."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._names: dict[str, None] = {}

    def add(self, names: Iterable[str], line: int) -> None:
        """Take note of ``names``; raises ``InputRefused`` for too many or too long ones."""
        for name in names:
            self._names[name] = None
            if len(self._names) > MAX_NAMES:
                raise self._place.refused(
                    f"more than {MAX_NAMES} distinct names of other columns or keys, and each would "
                    "be a column of the report",
                    "leave out what the report does not need, or put it under one key",
                    line,
                )
            if len(name) > MAX_NAME_CHARACTERS:
                raise self._place.refused(
                    f"a column or key has a name of more than {MAX_NAME_CHARACTERS} characters",
                    "check that the file is what its name says",
                    line,
                )

    def all(self) -> tuple[str, ...]:
        return tuple(self._names)
