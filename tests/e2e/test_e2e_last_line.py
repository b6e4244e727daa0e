"""The last line on stderr says what was sent or deleted, on every road out, with -q as without."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.program import Program
from tests.e2e.service import FAST, serving
from worker.sandbox.faults import parse_rule

PAIRS = persons(6, 2)
SAID = re.compile(r"(rehearsal: )?(nothing was (sent|deleted)|[0-9,]+ faces? deleted)(?![a-z])")
COMMAND = re.compile(r" type: (facepurge|less|grep) ")

ROADS = {
    "an unknown verb": (("rnu", "a.csv"), 2, False),
    "an unknown flag": (("run", "a.csv", "--yse"), 2, False),
    "a missing file": (("run", "nowhere.csv", "--sandbox"), 2, False),
    "a closed gate": (("run", "a.csv", "--sandbox", "--max-delete", "1"), 3, False),
    "no such run": (("resume", "nowhere", "--yes"), 3, False),
    "a dry run": (("run", "a.csv", "--sandbox", "--dry-run"), 0, False),
    "a rehearsal": (("run", "a.csv", "--sandbox", "--run-dir", "r"), 0, True),
    "a report": (("report", "r"), 0, True),
    "a resume of nothing": (("resume", "r", "--yes"), 0, True),
    "a round of nothing": (("retry", "r", "--yes"), 0, True),
    "a verification": (("verify", "r"), 0, True),
}
"""Arguments, exit code, and whether there is a next command to type."""


@pytest.mark.parametrize("quiet", [(), ("-q", "--log-format", "json")])
async def test_every_road_out_ends_with_it(
    program: Program, tmp_path: Path, quiet: tuple[str, ...]
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    for name, (arguments, code, goes_on) in ROADS.items():
        # The form of a log is no matter of a verb that is not known.
        flags = quiet if arguments[0] != "rnu" else ()
        ended = await program(*arguments, *flags)
        assert ended.code == code, (name, ended.err)
        last = ended.last_line
        if last.startswith("{"):
            last = json.loads(last)["event"]
        assert SAID.match(last), (name, ended.err)
        assert bool(COMMAND.search(last)) >= goes_on, (name, last)
        if code == 0 and quiet:
            assert len(ended.err.splitlines()) == 1, (name, ended.err)


async def test_causes_are_told_once_at_the_end_without_ids(
    program: Program, tmp_path: Path
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    faults = (
        "service-code code=400 person=person-1 applies=never count=9",
        "service-code code=403 person=person-2 applies=never count=9",
    )
    async with serving(PAIRS, faults=tuple(map(parse_rule, faults))) as service:
        ended = await program(
            *("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", *FAST, "-q")
        )
    assert ended.code == 4, ended.err
    told = ended.out[ended.out.index("causes\n") : ended.out.index("books: ")].splitlines()
    assert [line.strip().split(":")[0] for line in told[1::3]] == [
        "refused (400), 2 faces",
        "refused (403), 2 faces",
    ]
    assert all(line.strip().startswith("at a.csv:") for line in told[2::3])
    assert all(line.strip().startswith("next: ") for line in told[3::3])
    causes = json.loads((tmp_path / "r" / "report" / "summary.json").read_text())["causes"]
    assert [(x["code"], x["remedy"], x["faces"]) for x in causes] == [
        ("400", "data", 2),
        ("403", "permission", 2),
    ]
    assert all(x["first_request_ids"] for x in causes)
    # As they happened: a line for the first of each kind, also with -q.
    assert len(re.findall(r"\[warning +\] refused ", ended.err)) == 2
    for person, face in PAIRS:
        assert person not in ended.out + ended.err
        assert face not in ended.out + ended.err
