"""Names that are not known, and the known one that may have been meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name nearest to ``name`` whatever its case, or ``""`` where none is near.

    A known name that goes on where ``name`` ends is nearer than one that only looks like it:
    ``rate`` stands for ``rate_per_second`` rather than for ``state``.
    """
    # Needed only once something is wrong, and --help has to be quick.
    import difflib  # noqa: PLC0415

    in_lower_case = {word.lower(): word for word in known}
    spelt = name.lower()
    longer = [
        word for word in in_lower_case if word.startswith((f"{spelt}_", f"{spelt}-")) and spelt
    ]
    close = longer or difflib.get_close_matches(spelt, in_lower_case, n=1, cutoff=0.5)
    return in_lower_case[close[0]] if close else ""
