"""What is said and to whom: lost streams, and what must never be said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.e2e.inputs import persons, write_table
from tests.e2e.judge import files_with, judge
from tests.e2e.program import Program
from tests.e2e.service import FAST, serving
from worker.sandbox.faults import parse_rule
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_SECRET

PAIRS = persons(10, 2)


@pytest.mark.parametrize("lost", ["closed pipe", "full disk"])
async def test_a_lost_stdout_is_never_a_success(
    program: Program, tmp_path: Path, lost: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)

    def nowhere() -> int:
        if lost == "full disk":
            return os.open("/dev/full", os.O_WRONLY)
        reading, writing = os.pipe()
        os.close(reading)
        return writing

    async with serving(PAIRS) as service:
        again = False
        for arguments in (
            ("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", *FAST),
            ("report", "r", "--json"),
            ("plan", "a.csv"),
        ):
            stdout = nowhere()
            try:
                async with program.started(*arguments, stdout=stdout) as running:
                    ended = await running.ended()
            finally:
                os.close(stdout)
            assert ended.code == 1, (arguments, ended.err)
            assert "the result could not be written" in ended.err
            # There is more to say, and it is the last thing that is read.
            assert ended.last_line.startswith("nothing was sent" if again else "20 faces deleted")
            again = True
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts == {"deleted": 20}


@pytest.mark.parametrize("lost", ["closed pipe", "full disk"])
async def test_a_lost_stderr_does_not_stop_the_work(
    program: Program, tmp_path: Path, lost: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    async with serving(PAIRS) as service:
        reading, stderr = os.pipe()
        os.close(reading)
        if lost == "full disk":
            os.close(stderr)
            stderr = os.open("/dev/full", os.O_WRONLY)
        try:
            async with program.started(
                *("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r", *FAST),
                stderr=stderr,
            ) as running:
                ended = await running.ended()
        finally:
            os.close(stderr)
        assert ended.code == 0
        assert judge(tmp_path / "r", PAIRS, service.journal.lines).counts == {"deleted": 20}


@pytest.mark.parametrize("log_format", ["console", "json"])
async def test_neither_secrets_nor_ids_nor_labels_are_ever_logged(
    program: Program, tmp_path: Path, log_format: str
) -> None:
    rows = [(p, f, f"LABEL-{p}", f"NOTE-{p}") for p, f in PAIRS]
    rows.append(("bad person", "12ab", "LABEL-x", ""))
    write_table(tmp_path / "a.csv", rows, ("person_id", "face_id", "job_id", "note"))
    faults = (
        "service-code code=404 person=person-1 applies=never",
        "reset person=person-2",
        "throttle person=person-3",
        "partial person=person-4",
        "gateway-code code=SignatureDoesNotMatch nth=9 count=0",
    )
    async with serving(PAIRS, faults=tuple(map(parse_rule, faults))) as service:
        ended = await program(
            *("run", "a.csv", "--endpoint", service.url, "--yes", "--run-dir", "r"),
            *("--skip-invalid", "-v", "--log-format", log_format),
        )
        again = await program("resume", "r", "--yes", "-v", "--log-format", log_format)
    assert ended.code == again.code == 7, ended.err
    assert "a.csv:" in ended.err
    for text in (ended.err, again.err, ended.out, again.out):
        for word in (SANDBOX_ACCESS_KEY_SECRET, "acs LTAI", "ACS3-", "LABEL-", "NOTE-", "bad pers"):
            assert word not in text
        for person, face in PAIRS:
            assert person not in text
            assert face not in text
        assert "12ab" not in text
        assert "Traceback" not in text
    assert not files_with(tmp_path / "r", SANDBOX_ACCESS_KEY_SECRET.encode())
    if log_format == "json":
        for line in (ended.err + again.err).splitlines():
            assert isinstance(json.loads(line), dict), line
