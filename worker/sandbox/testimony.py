"""The request log as the server's side of a run, for the checker of invariants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from worker.errors import InputRefused
from worker.invariants.interface import Afterwards, Arrival, Server
from worker.sandbox.journal import Entry, Late, Line, Start

_HEAD, _TAIL = b'{"persons":{', b"}}"

_decoder: msgspec.json.Decoder[dict[str, list[str]]] = msgspec.json.Decoder(dict[str, list[str]])

_REFUSALS = frozenset({400, 401, 403, 404, 480, 588, 589, 590, 592, 594, 595, 596})
"""Service codes that say that nothing was done; what says 5xx otherwise may have been done."""

_MAY_HAVE_BEEN_DONE = frozenset({"ServiceUnavailable", "InternalError", "SignatureNonceUsed"})
"""Gateway codes that do not say that nothing was done."""


def server_side(
    lines: Iterable[Line],
    *,
    holdings: Iterable[tuple[str, Sequence[str]]] | None = None,
    complete: bool = True,
    most_arrivals_in_any_second: int = 0,
) -> Server:
    """What the lines of a log tell; the other arguments are those of ``Server``."""
    return Server(_events(lines), holdings, complete, most_arrivals_in_any_second)


def read_holdings(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The persons of a state file that ``worker.sandbox.state.write_state`` wrote.

    One at a time, because there may be millions. Raises ``InputRefused`` for another file.
    """
    try:
        with path.open("rb") as lines:
            for line in lines:
                person = line.rstrip().removeprefix(_HEAD).removesuffix(_TAIL).removesuffix(b",")
                if person:
                    yield from _decoder.decode(b"{" + person + b"}").items()
    except (OSError, msgspec.MsgspecError) as error:
        raise InputRefused(
            f"{path}: not the state of a rehearsal's sandbox",
            "restore the run directory from a copy",
        ) from error


def _events(lines: Iterable[Line]) -> Iterator[Arrival | Afterwards]:
    for line in lines:
        match line:
            case Entry():
                yield Arrival(
                    number=line.sequence,
                    arrived_us=line.at_us,
                    seconds=line.seconds,
                    operation=line.operation,
                    person_id=line.person_id,
                    face_ids=line.face_ids,
                    nonce=line.nonce,
                    served=line.served,
                    deleted=line.deleted,
                    added=line.added,
                    person=line.person,
                    lies=_lies(line),
                )
            case Late():
                yield Afterwards(
                    line.sequence, line.person_id, line.deleted, line.added, line.person
                )
            case Start():
                pass


def _lies(entry: Entry) -> bool:
    """Whether the answer denies what was done, or claims what was not.

    An answer that is merely useless (cut, empty, a server's error) is no lie.
    """
    name = entry.fault.partition(" ")[0]
    code = int(entry.code) if entry.code.isascii() and entry.code.isdigit() else 0
    did_something = bool(entry.deleted or entry.added or entry.person)
    match name:
        case "lie":
            return True
        case "partial":
            return entry.operation != "DeleteFaces"
        case "throttle":
            return did_something
        case "gateway-code":
            return did_something and entry.code not in _MAY_HAVE_BEEN_DONE
        case "service-code":
            return code in _REFUSALS and (did_something or entry.operation == "GetPerson")
        case _:
            return False
