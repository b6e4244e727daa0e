"""Claims about whole persons, in a run that removes their records: what nothing bears out is found."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import apsw
import msgspec
import pytest

from tests.invariants.rehearsal import (
    SETTINGS,
    Rehearsal,
    opened,
    plan,
    report,
    reseal,
    sandbox,
    violations,
    work,
)
from tests.invariants.test_invariants_ledger import (
    Spoil,
    another_lookup,
    attempts,
    configure,
    forget,
    names,
    state,
)
from worker.model import Verb
from worker.sandbox.faults import parse_rule
from worker.sandbox.journal import Entry, Line
from worker.sandbox.testimony import server_side

REMOVING = msgspec.structs.replace(SETTINGS, delete_person=True, max_rounds=1)

HOLDINGS = {
    "gone": ["1"],
    "quiet": ["2"],
    "barred": ["3"],
    "stuck": ["4"],
    "many": ["5", "6", "7", "8"],
}

FAULTS = (
    "reset operation=DeletePerson person=quiet",
    "service-code code=403 applies=never operation=DeletePerson person=barred",
    "reset applies=never operation=DeletePerson person=stuck count=0",
    "partial operation=GetPerson person=many",
)


async def _rehearse(run_dir: Path) -> Rehearsal:
    plan(run_dir, [(person, "") for person in [*HOLDINGS, "nobody"]], settings=REMOVING)
    async with sandbox(HOLDINGS, faults=tuple(map(parse_rule, FAULTS))) as service:
        await work(run_dir, service.url, Verb.RUN, REMOVING)
        return Rehearsal(run_dir, HOLDINGS, tuple(service.journal.lines))


@pytest.fixture(scope="module")
def removals(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """A run in which persons end in every way they can."""
    return asyncio.run(_rehearse(tmp_path_factory.mktemp("removals") / "r"))


def test_persons_that_end_in_every_way_break_nothing(removals: Rehearsal) -> None:
    assert violations(removals.run_dir, server=removals.server, finished=True) == []
    with opened(removals.run_dir) as c:
        lines = c.execute(
            "SELECT person_id, outcome, code FROM face JOIN call USING (call_no)"
            " WHERE face_id = '' ORDER BY call_no"
        ).fetchall()
        late = c.execute(
            "SELECT COUNT(*) FROM face WHERE outcome = 'present' AND attempts = 0 AND face_id <> ''"
        )
        assert late.fetchall() == [(2,)], "what was found too late was not sent"
    assert lines == [
        ("gone", "person_deleted", "200"),
        ("quiet", "person_deleted", "404"),
        ("barred", "refused", "403"),
        ("stuck", "present", "not_removed"),
        ("many", "present", "still_listed"),
        ("nobody", "no_person", "404"),
    ]


def forget_last(person: str, *kinds: str) -> Spoil:
    def spoil(c: apsw.Connection) -> None:
        forget(c, attempts(c, person, *kinds)[-1])

    return spoil


def said(person: str, outcome: str, code: str = "200") -> Spoil:
    def spoil(c: apsw.Connection) -> None:
        state(c, person, outcome, "")
        c.execute(
            "UPDATE face SET code = ? WHERE face_id = '' AND call_no ="
            " (SELECT call_no FROM call WHERE person_id = ?)",
            (code, person),
        )

    return spoil


def decided_elsewhere(c: apsw.Connection) -> None:
    c.execute(
        "UPDATE face SET decided_by = (SELECT decided_by FROM face WHERE face_id = '1')"
        " WHERE outcome = 'no_person'"
    )


SPOILED: list[tuple[str, Spoil, set[str]]] = [
    ("no_person after one answer", forget_last("nobody", "no_person"), {"T2", "T5"}),
    ("a person in conflict", said("gone", "conflict"), {"T4", "T5"}),
    ("refused, and nobody refused", said("gone", "refused"), {"T5"}),
    ("unsent, and removed", said("gone", "unsent"), {"T5"}),
    ("unknown, and removed", said("gone", "unknown"), {"T5"}),
    ("deleted, which only faces can be", said("gone", "deleted"), {"T4", "T5"}),
    ("empty, and removed since", said("gone", "person_empty"), {"T2", "T5"}),
    ("removed after one answer that nobody is known", forget_last("quiet", "no_person"), {"T1", "T5"}),
    ("removed, and refused", said("barred", "person_deleted"), {"T1"}),
    ("removed, and faces were listed again",
     lambda c: another_lookup(c, "gone", '["1"]'), {"T1", "T5"}),
    ("not removed, and nobody has looked", forget_last("stuck", "shown"), {"T2", "T5"}),
    ("not removed before all was tried", lambda c: configure(c, max_attempts=3), {"T2"}),
    ("present without a reason", said("many", "present", "x"), {"T5"}),
    ("present, and removed since", said("gone", "present", "still_listed"), {"T2", "T5"}),
    ("present, and there were rounds left", lambda c: configure(c, max_rounds=2), {"T2"}),
    ("the evidence of another person", decided_elsewhere, {"T5"}),
    ("removed although that was off", lambda c: configure(c, delete_person=False), {"S1"}),
    ("removed without having been empty", forget_last("gone", "shown"), {"S1"}),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "broken"), names(SPOILED))
def test_what_was_spoiled_is_found(
    removals: Rehearsal, tmp_path: Path, spoil: Spoil, broken: set[str]
) -> None:
    run_dir = tmp_path / "r"
    shutil.copytree(removals.run_dir, run_dir)
    with opened(run_dir) as c:
        spoil(c)
        reseal(c)
    report(run_dir)
    found = violations(run_dir)
    assert {violation.invariant for violation in found} == broken, "\n".join(map(str, found))


def test_a_person_called_unknown_to_the_service_who_has_faces(removals: Rehearsal) -> None:
    lines: list[Line] = list(removals.lines)
    entry = next(x for x in lines if isinstance(x, Entry) and x.person_id == "nobody")
    lines.insert(
        lines.index(entry),
        msgspec.structs.replace(entry, operation="AddFaces", nonce="somebody", added=("9",)),
    )
    server = server_side(lines, holdings=HOLDINGS.items())
    found = violations(replace(removals).run_dir, server=server)
    assert {violation.invariant for violation in found} == {"false"}
