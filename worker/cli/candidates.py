"""What a shell may offer after a word: runs, files, directories and regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_LEDGER = "ledger.sqlite3"
_DEFAULT_PLACE = "runs"


def runs(incomplete: str) -> list[CompletionItem[str]]:
    """Directories that hold a run, the youngest first; any directories where there is none."""
    from pathlib import Path  # noqa: PLC0415 (start-up: --help completes nothing)

    from click.shell_completion import CompletionItem  # noqa: PLC0415

    parent, slash, name = incomplete.rpartition("/")
    places = [parent + slash]
    if not slash and _DEFAULT_PLACE.startswith(incomplete):
        places.append(f"{_DEFAULT_PLACE}/")
    found: list[tuple[float, str]] = []
    for place in places:
        beginning = name if place == parent + slash else ""
        try:
            for entry in Path(place or ".").iterdir():
                ledger = entry / _LEDGER
                if entry.name.startswith(beginning) and ledger.is_file():
                    found.append((ledger.stat().st_mtime, place + entry.name))
        except OSError:
            continue
    if not found:
        return [CompletionItem(incomplete, type="dir")]
    return [CompletionItem(value) for _, value in sorted(found, reverse=True)]


def sources(incomplete: str) -> list[CompletionItem[str]]:
    """Names of files, as the shell itself offers them."""
    return of_kind("FILE", incomplete)


def of_kind(kind: str, incomplete: str) -> list[CompletionItem[str]]:
    """What a value of this kind (its name in the help) may be; nothing where only its giver knows."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 (start-up)

    if kind in ("FILE", "DIR"):
        return [CompletionItem(incomplete, type={"FILE": "file", "DIR": "dir"}[kind])]
    if kind == "REGION":
        from worker.green.endpoint import FACE_LIBRARY_REGIONS, PARTIAL_REGIONS  # noqa: PLC0415

        regions = (*FACE_LIBRARY_REGIONS, *PARTIAL_REGIONS)
        return [CompletionItem(name) for name in regions if name.startswith(incomplete)]
    return []


class Offered(click.ParamType[str]):
    """A word of which a shell knows the beginning, and ``offer`` what it may become."""

    name = "text"

    def __init__(self, offer: Callable[[str], list[CompletionItem[str]]]) -> None:
        self._offer = offer

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 (click calls it so)
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem[str]]:
        return self._offer(incomplete)


BY_METAVAR = {"RUN_DIR": runs, "[DIR]": runs, "SOURCE...": sources}
"""Arguments by what the help calls them."""
