"""Everything of a person: what the program plans, and the gates before the first call."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from tests.e2e.program import Ended, Program
from tests.e2e.service import serving
from worker.ledger.database import query

NOTHING_SENT = "nothing was sent"
WHOLE = "persons of whom all faces and then the record go; how many is not known yet"

PERSONS = "person_id,ticket\nann,1\nben,2\nann,3\n"
REQUESTS = (
    '{"personId": "ann", "faces": "all"}\n'
    '{"personId": "cid", "faceIds": ["5", "6"]}\n'
    '{"personId": "ben", "faceIds": ["7"]}\n'
)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "persons.csv").write_text(PERSONS)
    (tmp_path / "requests.jsonl").write_text(REQUESTS)
    (tmp_path / "faces.csv").write_text("person_id,face_id\ncid,5\n")
    (tmp_path / "holds.txt").write_text("ann\nben\n")
    return tmp_path


def runs(directory: Path) -> list[Path]:
    return list(directory.glob("runs/*"))


def closed(ended: Ended, code: int, said: str) -> None:
    assert ended.code == code, ended.err
    assert said in ended.err
    assert "  remedy: " in ended.err
    assert ended.last_line == NOTHING_SENT


async def test_a_plan_tells_whole_persons_from_named_faces(program: Program, inputs: Path) -> None:
    ended = await program(
        *("plan", "persons.csv", "requests.jsonl", "--whole-persons", "--max-persons", "3"),
        *("--max-delete", "50", "--delete-person"),
    )
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "plan",
        "  persons              3",
        f"  whole                2   {WHOLE}",
        "  faces                3   named in the input, beside those that will be found",
        "  at most             50   faces are deleted, named and found; beyond it the run stops",
        "  calls                3   at least 0:00:00 at 19.8 calls/s",
        "  rows                 7   of 6 records, 2 repeats, 0 empty lines",
        "  set aside            0   0 held, 0 in conflict, 0 refused",
    ]
    assert NOTHING_SENT in ended.last_line
    assert runs(inputs) == []


async def test_the_figures_of_a_plan_as_json(program: Program, inputs: Path) -> None:
    ended = await program(
        *("plan", "persons.csv", "requests.jsonl", "--whole-persons", "--json"),
        environment={"FACEPURGE_MAX_PERSONS": "3"},
    )
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    figures = {key: document[key] for key in ("persons", "whole_persons", "faces", "calls")}
    assert figures == {"persons": 3, "whole_persons": 2, "faces": 3, "calls": 3}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ("persons.csv",),
            2,
            "only if everything of each person is to be deleted, add --whole-per",
        ),
        (("persons.csv", "--whole-persons"), 3, "add --max-persons 2"),
        (("requests.jsonl",), 3, "everything of 1 person is to be deleted, and how many faces"),
        (("requests.jsonl", "--max-persons", "2"), 3, "3 persons, and --max-persons allows 2"),
        (("requests.jsonl", "--max-persons", "3", "--max-delete", "2"), 3, "--max-delete allows 2"),
        (
            ("persons.csv", "faces.csv", "--whole-persons"),
            2,
            'faces.csv:1: the header has "face_id"',
        ),
        (("faces.csv", "--delete-person"), 2, "--delete-person would do nothing"),
        (
            ("persons.csv", "--whole-persons", "--delete-person", "--exclude-from", "holds.txt"),
            2,
            "--delete-person would do nothing",
        ),
    ],
)
async def test_a_plan_ends_as_its_run_would(
    program: Program, inputs: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    closed(await program("plan", *arguments), code, said)
    async with serving([]) as service:
        flags = ("--endpoint", service.url, "--yes")
        closed(await program("run", *arguments, *flags), code, said)
        assert service.entries == []
    assert runs(inputs) == []


async def test_rows_that_only_seem_to_ask_for_everything_stop_the_run(
    program: Program, inputs: Path
) -> None:
    rows = ['"faces": "ALL"', '"faceIds": []', '"faces": ["1"]', '"faces": "all", "faceIds": ["1"]']
    text = "".join(f'{{"personId": "p", {row}}}\n' for row in rows)
    ended = await program("plan", "-", "--whole-persons", "--max-persons", "9", stdin=text.encode())
    closed(ended, 2, "the input has 4 rows that cannot be sent as they are")
    for line, column in enumerate(("faces", "faceIds", "faces", "faces"), start=1):
        assert f"  -:{line}:{column}: " in ended.err


async def test_such_a_run_is_confirmed_by_its_persons(program: Program, inputs: Path) -> None:
    run = ("run", "-", "--format", "jsonl", "--max-persons", "3")
    async with serving([]) as service:
        for flags, said in (
            ((), "faces of 3 persons would be deleted"),
            (("--confirm", "4"), "--confirm says 4, and the plan has 3 persons"),
        ):
            target = ("--endpoint", service.url)
            closed(await program(*run, *target, *flags, stdin=REQUESTS.encode()), 3, said)
        assert service.entries == []
    ended = await program(
        *(*run, "--sandbox", "--confirm", "3", "--run-dir", "r"),
        stdin=REQUESTS.encode(),
        environment={"FACEPURGE_ABSENCE_INTERVAL_SECONDS": "0"},
    )
    assert ended.code == 0, ended.err
    world = json.loads((inputs / "r" / "sandbox" / "state.json").read_text())["persons"]
    assert {person: len(faces) for person, faces in world.items()} == {"ann": 3, "ben": 1, "cid": 2}
    ledger = apsw.Connection(str(inputs / "r" / "ledger.sqlite3"), flags=apsw.SQLITE_OPEN_READONLY)
    facts = query(ledger, "SELECT key, value FROM run WHERE key GLOB '*persons'").fetchall()
    faces = query(ledger, "SELECT face_id FROM face WHERE found_by IS NULL").fetchall()
    ledger.close()
    assert dict(facts) == {"persons": "3", "whole_persons": "1"}
    assert sorted(face_id for (face_id,) in faces) == ["", "5", "6", "7"]
