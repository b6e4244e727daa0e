"""What a network can do to a call, and the truth that the whole program tells about it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.campaigns.judgement import attempts_of, sent_again
from tests.campaigns.proxy import (
    Drip,
    HalfClose,
    Replay,
    ResetAnswer,
    ResetRequest,
    Spoiler,
    StallAnswer,
    StallRequest,
    proxy,
)
from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import Report, judge, violations_of
from tests.e2e.program import Program
from tests.e2e.service import serving
from worker.sandbox.journal import Entry, Line
from worker.sandbox.testimony import server_side

QUICK = {
    "FACEPURGE_READ_TIMEOUT_SECONDS": "0.4",
    "FACEPURGE_TOTAL_TIMEOUT_SECONDS": "2",
    "FACEPURGE_CONNECT_TIMEOUT_SECONDS": "1",
    "FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0.1",
}

APPLIED: dict[str, Spoiler] = {
    "person-1": ResetRequest(1.0),
    "person-3": StallAnswer(0.0),
    "person-5": StallAnswer(0.5),
    "person-7": ResetAnswer(0.5),
    "person-9": Replay("before"),
    "person-11": HalfClose("client"),
}
"""The service got the request, and the program no answer that says so."""

NOT_APPLIED: dict[str, Spoiler] = {
    "person-13": ResetRequest(0.0),
    "person-15": ResetRequest(0.5),
    "person-17": ResetRequest(0.95),
    "person-19": StallRequest(0.5),
}
"""The service never got the whole request, so that a lookup still lists the face."""

ANSWERED: dict[str, Spoiler] = {
    "person-21": Replay("after"),
    "person-23": Drip(0.0005),
}
"""Strange, and a good answer all the same."""


def is_refused_twin(line: Line) -> bool:
    return isinstance(line, Entry) and line.code == "SignatureNonceUsed"


async def test_each_way_a_call_can_be_spoiled_ends_in_the_truth(
    tmp_path: Path,
) -> None:
    pairs = persons(26, 2)
    write_table(tmp_path / "a.csv", pairs)
    async with (
        serving(pairs) as service,
        proxy(service.url, {**APPLIED, **NOT_APPLIED, **ANSWERED}, frozenset({1, 4})) as between,
    ):
        ended = await Program(tmp_path)(
            *("run", "a.csv", "--endpoint", between.url, "--yes", "--run-dir", "r"),
            *("--raised-quota", "--rate", "100"),
            environment=QUICK,
        )
        assert ended.code == 0, ended.err
        # The checker holds a program to nonces used once, and here the network repeats them.
        twins = [line for line in service.journal.lines if is_refused_twin(line)]
        assert len(twins) == 2
        lines = [line for line in service.journal.lines if line not in twins]
        report = judge(tmp_path / "r", pairs, lines)
        assert between.spoiled == {*APPLIED, *NOT_APPLIED, *ANSWERED}
        assert between.connections >= 4
        assert {person for person, _ in report.of("absent")} == set(APPLIED)
        assert len(report.of("deleted")) == len(pairs) - 2 * len(APPLIED)
        assert service.deleted == set(pairs)


async def test_a_request_that_is_delivered_after_its_client_has_given_up(
    tmp_path: Path,
) -> None:
    """The last bytes arrive between two lookups, or only after the second attempt."""
    pairs = persons(6, 2)
    write_table(tmp_path / "a.csv", pairs)
    late: dict[str, Spoiler] = {
        f"person-{number}": StallRequest(0.9, delivered=True, late_seconds=seconds)
        for number, seconds in ((0, 0.0), (2, 0.1), (4, 0.5))
    }
    async with serving(pairs) as service, proxy(service.url, late) as between:
        ended = await Program(tmp_path)(
            *("run", "a.csv", "--endpoint", between.url, "--yes", "--run-dir", "r"),
            environment=QUICK,
        )
        assert ended.code == 0, ended.err
        # Where the first attempt comes after the second, the service sees it without a lookup
        # before it; the ledger has them in the order in which they were caused.
        server = server_side(service.journal.lines, complete=False)
        violations = violations_of(tmp_path / "r", pairs=pairs, server=server)
        assert {violation.invariant for violation in violations} <= {"twice"}
        assert not list(sent_again(attempts_of(tmp_path / "r"), service.entries))
        report = Report(tmp_path / "r")
        assert report.of("deleted") | report.of("absent") == set(pairs) == service.deleted
        asked = Counter(entry.person_id for entry in service.entries if entry.face_ids)
        assert asked["person-4"] > asked["person-1"]
