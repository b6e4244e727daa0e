"""The exclusion list: before the plan, in the middle of a run, and before a resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import Report, judge
from tests.e2e.program import Program
from tests.e2e.service import serving
from worker.sandbox.faults import parse_rule

PAIRS = persons(20, 2)
LATE = ("person-17", "person-18")
"""Far enough behind the first calls not to be on their way when the list changes."""


def run(url: str) -> tuple[str, ...]:
    return ("run", "a.csv", "--endpoint", url, "--yes", "--run-dir", "r", "--exclude-from", "holds")


def replace(path: Path, text: str) -> None:
    """As editors and deployments do: never half of the new list."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


async def test_what_is_held_is_never_sent(program: Program, tmp_path: Path) -> None:
    pairs = [*persons(4, 2), ("person-0", persons(1)[0][1])]
    write_table(tmp_path / "a.csv", pairs)
    (tmp_path / "holds").write_text(f"# court order\n\nperson-0\nperson-2,{pairs[4][1]}\n")
    async with serving(pairs) as service:
        ended = await program(*run(service.url))
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", pairs, service.journal.lines)
        assert report.counts == {"held": 4, "deleted": 5}
        assert report.of("held") == {*pairs[:2], pairs[4]}
        assert [entry.person_id for entry in service.entries] == [
            "person-1",
            "person-2",
            "person-3",
        ]


async def test_a_list_that_grows_in_the_middle_counts_at_once(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    (tmp_path / "holds").write_text("person-0\n")
    one_face = next(face for person, face in PAIRS if person == LATE[1])
    async with serving(PAIRS) as service:
        async with program.started(*run(service.url)) as running:
            await service.arrivals(3)
            replace(tmp_path / "holds", f"person-0\n{LATE[0]}\n{LATE[1]},{one_face}\n")
            ended = await running.ended()
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"held": 5, "deleted": 35}
        held = {PAIRS[0], PAIRS[1], (LATE[1], one_face)}
        assert report.of("held") == held | {pair for pair in PAIRS if pair[0] == LATE[0]}
        assert LATE[0] not in {entry.person_id for entry in service.entries}
        # The list may be kept: it only ever grew.
        ended = await program("resume", "r")
        assert ended.code == 0, ended.err


async def test_a_hold_counts_for_a_call_that_waits_to_be_sent_again(
    program: Program, tmp_path: Path
) -> None:
    pairs = persons(3, 2)
    write_table(tmp_path / "a.csv", pairs)
    (tmp_path / "holds").write_text("# nobody yet\n")
    throttle = parse_rule("throttle retry_after=2 count=1")
    async with serving(pairs, faults=(throttle,)) as service:
        async with program.started(*run(service.url), "--concurrency", "1") as running:
            await service.arrivals(1)
            replace(tmp_path / "holds", "person-0\n")
            ended = await running.ended()
        assert ended.code == 0, ended.err
        # The one request for person-0 was refused before the hold began.
        assert [entry.person_id for entry in service.entries] == [
            "person-0",
            "person-1",
            "person-2",
        ]
        assert Report(tmp_path / "r").counts == {"held": 2, "deleted": 4}
        assert service.deleted == set(pairs[2:])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("remove", "1 entry of the exclusion list disappeared"),
        ("vanish", "can no longer be read"),
        ("garble", "not UTF-8"),
    ],
)
async def test_a_list_that_cannot_be_trusted_stops_the_run(
    program: Program, tmp_path: Path, change: str, said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    holds = tmp_path / "holds"
    holds.write_text("person-0\nperson-1\n")
    async with serving(PAIRS) as service:
        async with program.started(*run(service.url)) as running:
            await service.arrivals(3)
            match change:
                case "remove":
                    replace(holds, "person-0\n")
                case "vanish":
                    holds.unlink()
                case "garble":
                    holds.write_bytes(b"\xff\xfe")
            ended = await running.ended()
        assert ended.code == 7, ended.err
        assert said in ended.last_line
        assert ended.last_line.endswith("to go on type: facepurge resume r")
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts["unsent"] > 20
        assert report.counts["held"] == 4
        # As long as it cannot be trusted, nothing goes on.
        seen = len(service.entries)
        ended = await program("resume", "r", "--yes")
        assert ended.code in {2, 3}, ended.err
        assert len(service.entries) == seen
        holds.write_text("person-0\nperson-1\nperson-19\n")
        ended = await program("resume", "r", "--yes")
        assert ended.code == 0, ended.err
        report = judge(tmp_path / "r", PAIRS, service.journal.lines)
        assert report.counts == {"held": 6, "deleted": 34}
