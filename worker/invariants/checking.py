"""The checker as a whole: everything that is known of a run goes in, violations come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec

from worker.invariants.begun import check_begun
from worker.invariants.blocks import check_blocks
from worker.invariants.claims import check_claims
from worker.invariants.evidence import persons
from worker.invariants.found import check_found
from worker.invariants.interface import Server
from worker.invariants.pace import check_pace
from worker.invariants.plan import check_plan
from worker.invariants.reports import ABSENT, ReportState, check_report, compare_report
from worker.invariants.sending import check_sending
from worker.invariants.shapes import check_shapes
from worker.invariants.timeline import Terms, Timeline
from worker.invariants.truth import check_truth
from worker.invariants.violation import Findings, Violation
from worker.invariants.wholes import check_wholes
from worker.invariants.wire import check_wire
from worker.invariants.world import Scratch
from worker.ledger.database import query
from worker.ledger.unrolling import unrolled


@dataclass(frozen=True, slots=True)
class Examination:
    """What was looked at, and what is wrong with it."""

    violations: Sequence[Violation]
    """At most 100 of each invariant."""
    counts: Mapping[str, int]
    """Violations per invariant, also those that are not kept."""
    rows: int
    persons: int
    calls: int
    faces: int
    """Faces of calls; lines of whole persons are none."""
    attempts: Mapping[str, int]
    """Per operation."""
    requests: int
    """Requests at the server; 0 where its side is not known."""
    report: ReportState
    sessions_with_unknown_settings: int
    """Later sessions: what depends on their settings was judged only where it cannot matter."""


def check(
    connection: apsw.Connection,
    *,
    pairs: Iterable[tuple[str, str]] | None = None,
    server: Server | None = None,
    report: Path | None = None,
    finished: bool = False,
    later: Terms | None = None,
) -> list[Violation]:
    """The violations that ``examine`` finds."""
    return list(
        examine(
            connection,
            pairs=pairs,
            server=server,
            report=report,
            finished=finished,
            later=later,
        ).violations
    )


def examine(
    connection: apsw.Connection,
    *,
    pairs: Iterable[tuple[str, str]] | None = None,
    server: Server | None = None,
    report: Path | None = None,
    finished: bool = False,
    later: Terms | None = None,
) -> Examination:
    """Evaluate every invariant, as far as what is given allows.

    ``connection`` reads the ledger of a run on which nobody works; ``pairs`` are person and face of
    each row of the input, in its order; ``server`` is the server's side; ``report`` the directory
    of the report. ``finished``: the faults have ended and the run was resumed to its end. ``later``
    are the settings of all sessions but the first, where they are known.

    Persons are judged one at a time: memory grows with the largest of them, and not with their
    number. Raises ``apsw.Error`` when the ledger cannot be read, and what the arguments raise.
    """
    findings = Findings()
    examination = Examination(findings.kept, findings.counts, 0, 0, 0, 0, {}, 0, ABSENT, 0)
    if not check_blocks(connection, findings):
        return examination
    with unrolled(connection):
        if check_shapes(connection, findings):
            examination = _examine(
                connection,
                findings,
                pairs=pairs,
                server=server,
                report=report,
                finished=finished,
                later=later,
            )
    if report is not None and examination.report.is_readable:
        # From the ledger as it is: laid out it would not be what others write theirs from.
        compare_report(connection, report, findings)
    return examination


def _examine(
    connection: apsw.Connection,
    findings: Findings,
    *,
    pairs: Iterable[tuple[str, str]] | None,
    server: Server | None,
    report: Path | None,
    finished: bool,
    later: Terms | None,
) -> Examination:
    facts = {key: msgspec.json.decode(x) for key, x in query(connection, "SELECT * FROM run")}
    timeline = Timeline(connection, later)
    rows = check_plan(connection, findings, pairs)
    check_begun(connection, findings)
    check_pace(connection, timeline, findings)
    person_count = call_count = face_count = requests = 0
    attempts: Counter[str] = Counter()
    nonces = query(connection, "SELECT MIN(seq) FROM attempt GROUP BY nonce HAVING COUNT(*) > 1")
    for (seq,) in nonces:
        findings.add("R2", f"attempt {seq}", "its nonce was used again")
    with Scratch(connection, server) if server is not None else nullcontext() as scratch:
        if scratch is not None:
            shared = timeline.planned.shared_quota
            requests = check_wire(scratch, facts["planned_us"], findings, shared_quota=shared)
        for person in persons(connection):
            person_count += 1
            call_count += len(person.calls)
            face_count += sum(face.face_id != "" for call in person.calls for face in call.faces)
            attempts.update(a.operation for call in person.calls for a in call.attempts)
            check_sending(person, timeline, facts["run_id"], findings)
            check_found(connection, person, findings, looking=facts["whole_persons"] > 0)
            check_claims(person, timeline, findings, finished=finished)
            check_wholes(person, timeline, findings)
            if scratch is not None:
                check_truth(person, scratch, timeline, findings)
    state = check_report(connection, report, findings) if report is not None else ABSENT
    return Examination(
        violations=findings.kept,
        counts=findings.counts,
        rows=rows,
        persons=person_count,
        calls=call_count,
        faces=face_count,
        attempts=attempts,
        requests=requests,
        report=state,
        sessions_with_unknown_settings=sum(x.terms is None for x in timeline.sessions),
    )
