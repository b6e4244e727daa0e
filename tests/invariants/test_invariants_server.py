"""One thing is changed in the server's own log: the checker sees that the ledger does not fit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from tests.invariants.conftest import HOLDINGS
from tests.invariants.rehearsal import Rehearsal, opened, violations
from worker.ledger.database import query
from worker.sandbox.journal import Entry, Late, Line
from worker.sandbox.testimony import server_side

Lines = list[Line]
Spoil = Callable[[Lines], object]


def of(lines: Sequence[Line], person: str, operation: str = "DeleteFaces") -> list[int]:
    """Where the person's requests are in the log."""
    return [
        number
        for number, line in enumerate(lines)
        if isinstance(line, Entry) and (line.person_id, line.operation) == (person, operation)
    ]


def change(lines: Lines, number: int, **fields: object) -> None:
    line = lines[number]
    assert isinstance(line, Entry)
    lines[number] = msgspec.structs.replace(line, **fields)


def again(lines: Lines, number: int, **fields: object) -> None:
    """The same request arrived once more, at the end."""
    lines.append(lines[number])
    change(lines, len(lines) - 1, sequence=len(lines), deleted=(), **fields)


def late(lines: Lines, before: int, of_request: int, *deleted: str) -> None:
    """What a request asked for was done only before another line."""
    entry = lines[of_request]
    assert isinstance(entry, Entry)
    lines.insert(
        before,
        Late(
            sequence=entry.sequence,
            seconds=entry.seconds,
            person_id=entry.person_id,
            deleted=deleted,
        ),
    )


def added(lines: Lines, before: int, person: str, *faces: str) -> None:
    """Somebody else put faces there."""
    entry = next(line for line in lines if isinstance(line, Entry))
    somebody = msgspec.structs.replace(
        entry,
        sequence=1000,
        person_id=person,
        operation="AddFaces",
        nonce="somebody",
        added=faces,
        deleted=(),
        face_ids=(),
    )
    lines.insert(before, somebody)


def everything(lines: Lines, **fields: object) -> None:
    for number, line in enumerate(lines):
        if isinstance(line, Entry):
            change(lines, number, **fields)


def arrive(lines: Lines, number: int, earlier_us: int) -> None:
    line = lines[number]
    assert isinstance(line, Entry)
    change(lines, number, at_us=line.at_us - earlier_us)


def all_arrive(lines: Lines, earlier_us: int) -> None:
    for number, line in enumerate(lines):
        if isinstance(line, Entry):
            arrive(lines, number, earlier_us)


SPOILED: list[tuple[str, Spoil, set[str]]] = [
    ("a request without a record",
     lambda x: again(x, of(x, "good")[0], nonce="e" * 32, served=False), {"D1"}),
    ("a request without a nonce",
     lambda x: again(x, of(x, "good")[0], nonce="", served=False), {"D1", "R2"}),
    ("a request to an address that is no operation",
     lambda x: again(x, of(x, "good")[0], operation="", nonce="e" * 32, served=False), {"D1"}),
    ("a nonce used again",
     lambda x: again(x, of(x, "slow")[0], served=False), {"R2"}),
    ("other faces than the record says",
     lambda x: change(x, of(x, "slow")[0], face_ids=("16", "1")), {"D1"}),
    ("another person than the record says",
     lambda x: change(x, of(x, "slow")[0], person_id="good"), {"D1"}),
    ("another operation than the record says",
     lambda x: change(x, of(x, "slow")[0], operation="DeletePerson"), {"D1"}),
    ("a request before the plan",
     lambda x: arrive(x, of(x, "good")[0], 60_000_000), {"D1", "S4"}),
    ("an answer without a request", lambda x: x.pop(of(x, "slow")[0]), {"R3"}),
    ("a deletion that was not done", lambda x: change(x, of(x, "good")[0], deleted=()), {"false"}),
    ("a deletion half done", lambda x: change(x, of(x, "good")[0], deleted=("1",)), {"false"}),
    ("an absence that is none",
     lambda x: change(x, of(x, "lost")[0], deleted=("3",)), {"T2", "false"}),
    ("a person not known who has faces",
     lambda x: added(x, of(x, "nobody")[-1], "nobody", "14"), {"false"}),
    ("a person called empty who is not",
     lambda x: added(x, of(x, "whole", "GetPerson")[-1], "whole", "10"), {"T2", "false"}),
    ("a face called refused that was deleted",
     lambda x: change(x, of(x, "barred")[-1], deleted=("8",), fault=""), {"lost"}),
    ("a face called present that was deleted, and by a request that came later",
     lambda x: change(x, of(x, "slow")[0], person_id="stays", deleted=("7",), fault=""),
     {"D1", "T2"}),
    ("a face called present that was not there any more",
     lambda x: late(x, of(x, "stays", "GetPerson")[-1], of(x, "stays")[-1], "7"), {"T2"}),
    ("a lookup recorded as listing what was gone",
     lambda x: change(x, of(x, "again")[0], deleted=("9",)), {"T2"}),
    ("a deletion repeated without a look",
     lambda x: x.pop(of(x, "again", "GetPerson")[0]), {"R3", "twice"}),
]  # fmt: skip

HARMLESS: list[tuple[str, Spoil]] = [
    ("a server that denied what it did", lambda x: change(x, of(x, "barred")[-1], deleted=("8",))),
    ("a deletion after everybody had looked",
     lambda x: late(x, len(x), of(x, "stays")[-1], "7")),
    ("a clock that is not ours",
     lambda x: all_arrive(x, 1_200_000_000)),
    ("faces that somebody else adds afterwards", lambda x: added(x, len(x), "good", "1")),
    ("a deletion of faces of somebody who is not in the run",
     lambda x: added(x, len(x), "whole", "99")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "broken"), [pytest.param(x, y, id=name) for name, x, y in SPOILED]
)
def test_what_does_not_fit_the_servers_log_is_found(
    original: Rehearsal, spoil: Spoil, broken: set[str]
) -> None:
    lines = list(original.lines)
    spoil(lines)
    server = server_side(lines, holdings=HOLDINGS.items())
    found = violations(original.run_dir, server=server)
    assert {violation.invariant for violation in found} == broken, "\n".join(map(str, found))


@pytest.mark.parametrize("spoil", [pytest.param(x, id=name) for name, x in HARMLESS])
def test_what_no_program_can_know_is_held_against_nobody(original: Rehearsal, spoil: Spoil) -> None:
    lines = list(original.lines)
    spoil(lines)
    server = server_side(lines, holdings=HOLDINGS.items())
    assert violations(original.run_dir, server=server) == []


def test_a_deletion_is_missed_also_where_nobody_knows_what_there_was(original: Rehearsal) -> None:
    lines = list(original.lines)
    assert violations(original.run_dir, server=server_side(lines)) == []
    change(lines, of(lines, "good")[0], deleted=())
    found = violations(original.run_dir, server=server_side(lines))
    assert {violation.invariant for violation in found} == {"false"}


def test_what_a_lookup_lists_was_put_back_where_others_change_the_world(
    original: Rehearsal,
) -> None:
    lines = list(original.lines)
    change(lines, of(lines, "again")[0], deleted=("9",))
    server = server_side(lines, holdings=HOLDINGS.items(), complete=False)
    assert violations(original.run_dir, server=server) == []


def test_a_request_must_not_arrive_before_its_record(original: Rehearsal) -> None:
    lines = list(original.lines)
    number = of(lines, "slow")[-1]
    entry = lines[number]
    assert isinstance(entry, Entry)
    with opened(original.run_dir) as connection:
        (opened_us,) = query(
            connection, "SELECT opened_us FROM attempt WHERE nonce = ?", (entry.nonce,)
        ).fetchone()
    change(lines, number, at_us=opened_us - 5_000)
    server = server_side(lines, holdings=HOLDINGS.items())
    (found,) = violations(original.run_dir, server=server)
    assert (found.invariant, found.place) == ("D1", f"request {entry.sequence}")


def test_a_request_that_was_not_sent_must_not_arrive(copied: Callable[[], Rehearsal]) -> None:
    run = copied()
    with opened(run.run_dir) as connection:
        connection.execute(
            "UPDATE ending SET kind = 'not_sent', sent_us = NULL WHERE kind = 'throttled'"
        )
    found = violations(run.run_dir, server=run.server, with_report=False)
    assert {violation.invariant for violation in found} == {"R3", "T6"}


def test_arrivals_are_counted_by_the_servers_own_clock(original: Rehearsal) -> None:
    lines = list(original.lines)
    requests = len([line for line in lines if isinstance(line, Entry)])
    for number, line in enumerate(lines):
        if isinstance(line, Entry):
            change(lines, number, seconds=number / 4)  # four a second, of all operations together

    def found(most: int) -> list[str]:
        server = server_side(lines, holdings=HOLDINGS.items(), most_arrivals_in_any_second=most)
        return [violation.invariant for violation in violations(original.run_dir, server=server)]

    assert found(4) == []
    everything(lines, seconds=0.0)
    assert found(requests) == []
    assert set(found(3)) == {"R1"}
