"""Whatever differs from the plan is refused and named; most of it without a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import msgspec
import pytest

import worker.cli
from tests.core.rig import draft_run, rows
from tests.e2e.altered import HOUR_US, aged, altered, facts
from tests.e2e.inputs import persons, write_table
from worker import telemetry
from worker.cli import binding, bound_plan, consent, stderr, stdout, terms
from worker.cli.binding import Binding, bound
from worker.configuration import TYPES, load
from worker.ledger import database
from worker.ledger.database import DRAFT_NAME, FILE_NAME
from worker.locks import LOCK_NAME
from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET

Main = Callable[..., tuple[int, str, str]]

PAIRS = persons(10, 3)
NOBODY = "http://127.0.0.1:9"
"""Where no service is: a call would be seen as an error."""


@pytest.fixture
def main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Main]:
    """Runs ``facepurge`` in this process, in the test's directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stdout._state, "lost", "")
    monkeypatch.setattr(stderr._state, "as_json", False)
    monkeypatch.setattr(telemetry, "configure", lambda *_: None)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": SANDBOX_ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SANDBOX_ACCESS_KEY_SECRET,
    }.items():
        monkeypatch.setenv(name, value)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            worker.cli.main(args)
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, captured.out, captured.err

    before = os.umask(0o077)
    yield run
    os.umask(before)


@pytest.fixture
def plan(tmp_path: Path, main: Main) -> Path:
    """A plan of a file and two parts, with holds and a ceiling."""
    write_table(tmp_path / "a.csv", PAIRS)
    (tmp_path / "parts").mkdir()
    write_table(tmp_path / "parts" / "1.csv", persons(1, first=20))
    write_table(tmp_path / "parts" / "2.csv", persons(1, first=21))
    (tmp_path / "holds").write_text("person-8\nperson-9\n")
    belts = ("--exclude-from", "holds", "--max-delete", "1000", "--rate", "10", "--reserve", "2")
    code, _, err = main("plan", "a.csv", "parts/*.csv", "--endpoint", NOBODY, "-o", "p", *belts)
    assert code == 0, err
    return tmp_path / "p"


Change = Callable[[Path], object]


def _rewritten(directory: Path) -> None:
    text = (directory / "a.csv").read_text()
    (directory / "a.csv").write_text(text.replace("person-3,", "person-4,", 1))


def _longer(directory: Path) -> None:
    with (directory / "a.csv").open("a") as file:
        file.write("person-77,0042\n")


def _a_pipe(directory: Path) -> None:
    (directory / "a.csv").unlink()
    os.mkfifo(directory / "a.csv")


def _a_directory(directory: Path) -> None:
    (directory / "a.csv").unlink()
    (directory / "a.csv").mkdir()


CHANGES: dict[str, tuple[Change, str]] = {
    "another content": (_rewritten, "and the file is another now (SHA-256"),
    "a longer file": (_longer, "bytes now"),
    "a pipe in its place": (_a_pipe, "a.csv: the plan has read a file, and it is none any more"),
    "a directory in its place": (_a_directory, "a.csv: the plan has read a file, and it is none"),
    "no file": (lambda d: (d / "a.csv").unlink(), "a.csv: the plan has read this file, and it is"),
    "a new part": (
        lambda d: write_table(d / "parts" / "3.csv", persons(1, first=50)),
        "parts/3.csv: the file is not in the plan, and a pattern or folder of its sources has it now",
    ),
    "a part gone": (lambda d: (d / "parts" / "2.csv").unlink(), "parts/2.csv: the plan has read"),
    "no parts": (lambda d: shutil.rmtree(d / "parts"), "no file matches this pattern, and 2 more"),
    "a hold removed": (
        lambda d: (d / "holds").write_text("person-8\nperson-7\n"),
        "1 entry of the exclusion list disappeared since the plan; holds may only grow",
    ),
    "no list": (lambda d: (d / "holds").unlink(), "the plan knows it with 2 entries"),
    "no text in the list": (lambda d: (d / "holds").write_bytes(b"\xff\xfe"), "not UTF-8"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_input_and_holds_that_are_not_those_of_the_plan(
    main: Main, plan: Path, tmp_path: Path, name: str
) -> None:
    change, said = CHANGES[name]
    before = facts(plan)
    change(tmp_path)
    code, out, err = main("run", "p", "-q", "--yes")
    assert (code, out) == (3, ""), err
    assert said in err
    assert "facepurge plan SOURCE... -o DIR" in err
    assert err.splitlines()[-1] == "nothing was sent"
    assert facts(plan) == before


WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    "another list": (("--exclude-from", "a.csv"), "--exclude-from: the plan has /"),
    "another rate": (("--rate", "5"), "--rate: the plan has 10, and this says 5"),
    "more attempts": (("--max-attempts", "9"), "--max-attempts: the plan has 3, and this says 9"),
    "verification": (("--verify", "all"), "--verify: the plan has none, and this says all"),
    "another signature": (("--signature", "v3"), "--signature: the plan has roa, and this says v3"),
    "columns": (("--columns", "person=x"), "--columns: the plan has nothing, and this says person"),
    "another delimiter": (("--delimiter", ";"), "--delimiter: the plan has nothing, and this says"),
    "the record too": (("--delete-person",), "--delete-person: the plan has no, and this says yes"),
    "rows left out": (("--skip-invalid",), "--skip-invalid: the plan has no"),
    "a higher ceiling": (("--max-delete", "2000"), "the plan allows 1000, and 2000 is more"),
    "a lower ceiling": (("--max-delete", "5"), "the plan has 26 faces, and --max-delete allows 5"),
    "fewer persons": (("--max-persons", "2"), "the plan has 10 persons, and --max-persons allows"),
    "a longer life": (("--plan-ttl", "100"), "the plan allows 24, and 100 is more"),
    "less for others": (("--reserve", "1"), "the plan keeps 2, and 1 is less"),
    "a rehearsal": (("--sandbox",), f"--sandbox: the plan is about {NOBODY} and not a rehearsal"),
    "another endpoint": (("--endpoint", "http://127.0.0.1:8"), "the settings now say http://127.0"),
    "a region": (("--region", "cn-beijing"), "the settings now say https://green.cn-beijing.ali"),
    "several": (("--rate", "5", "--verify", "all"), "and 1 more difference"),
}


@pytest.mark.parametrize("name", WORDS)
def test_words_that_contradict_the_plan(main: Main, plan: Path, name: str) -> None:
    flags, said = WORDS[name]
    code, out, err = main("run", "p", "-q", "--yes", *flags)
    assert (code, out) == (3, ""), err
    assert said in err
    assert "  remedy: " in err
    assert err.splitlines()[-1] == "nothing was sent"


def test_a_place_that_says_something_else_is_a_difference_unless_a_flag_has_decided(
    main: Main, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ("run", "p", "--dry-run")
    file = tmp_path / "other.toml"
    file.write_text("rate_per_second = 7.0\nmax_delete = 5000\nmax_lookups = 5\n")
    assert main(*shown, "--config", str(file))[0] == 0
    file.write_text("max_lookups = 9\n")
    code, _, err = main(*shown, "--config", str(file))
    assert code == 3
    assert "other.toml:1: max_lookups: the plan has 5, and this says 9" in err
    monkeypatch.setenv("FACEPURGE_REGION", "cn-beijing")
    assert main(*shown)[0] == 0  # the plan was told --endpoint
    monkeypatch.setenv("FACEPURGE_MAX_DELETE", "3")
    assert "--max-delete allows 3" in main(*shown)[2]  # less is always heard


def test_settings_that_need_not_be_those_of_the_plan_exist() -> None:
    classes = (terms.SESSION, terms.CEILINGS, terms.FLOORS, terms.BELTS, terms.HOURS)
    named = [key for keys in (*classes, terms.TARGET, terms.ELSEWHERE) for key in keys]
    assert len(named) == len(set(named))
    assert set(named) < set(TYPES)


def test_belts_may_be_put_on_and_not_taken_off(main: Main, plan: Path, tmp_path: Path) -> None:
    on = ("--canary", "1", "--halt", "soon,fail=20", "--window", "22:00-06:00", "--reserve", "3")
    code, _, err = main("run", "p", "--dry-run", *on, "--max-duration", "6h", "--stop-file", "s")
    assert code == 0, err
    code, _, err = main("run", "p", "--dry-run", "--time-zone", "UTC")
    assert code == 2
    assert "it says something about a time window, and there is none" in err
    assert main("plan", "a.csv", "--endpoint", NOBODY, "-o", "q", *on)[0] == 0
    for off, said in (
        (("--time-zone", "UTC"), "--time-zone: the plan has nothing, and this says UTC"),
        (("--outside-window", "wait"), "--outside-window: the plan has stop, and this says wait"),
        (("--canary", "none"), "--canary: the plan has 1, and this says none"),
        (
            ("--halt", "soon,fail=99"),
            "--halt: the plan has soon,fail=20, and this says soon,fail=99",
        ),
        (("--window", "always"), "--window: the plan has 22:00-06:00, and this says always"),
        (("--reserve", "1"), "--reserve: the plan keeps 3, and 1 is less"),
    ):
        code, _, err = main("run", "q", "--dry-run", *off)
        assert code == 3
        assert said in err


def test_an_hour_that_was_planned_is_of_the_zone_that_was_planned(
    main: Main, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the zone comes by flag or not: a night in another zone may be the middle of the day."""
    shown = ("run", "p", "--dry-run")
    monkeypatch.setenv("FACEPURGE_TIME_ZONE", "Asia/Tokyo")
    assert main(*shown, "--window", "22:00-06:00")[0] == 0
    monkeypatch.delenv("FACEPURGE_TIME_ZONE")
    assert main(*shown, "--window", "22:00-06:00", "--time-zone", "UTC")[0] == 0
    window = ("--window", "22:00-06:00", "--time-zone", "UTC")
    assert main("plan", "a.csv", "--endpoint", NOBODY, "-o", "q", "--window", "22:00-06:00")[0] == 0
    assert main("plan", "a.csv", "--endpoint", NOBODY, "-o", "typed", *window)[0] == 0
    monkeypatch.setenv("FACEPURGE_TIME_ZONE", "Asia/Tokyo")
    code, _, err = main("run", "q", "--dry-run")
    assert code == 3
    assert "TIME_ZONE: the plan has nothing, and this says Asia/Tokyo" in err
    assert main("run", "typed", "--dry-run")[0] == 0  # a flag had decided
    code, _, err = main("run", "typed", "--dry-run", "--time-zone", "Asia/Tokyo")
    assert code == 3
    assert "--time-zone: the plan has UTC, and this says Asia/Tokyo" in err


def test_an_input_that_was_changed_and_set_back_in_time_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("person_id,face_id\np,1\n")
    before, status = binding._identity_of(str(path)), path.stat()
    later = time.time_ns() + 10**9
    while True:  # the clock of a file system ticks coarsely
        path.write_text("person_id,face_id\np,2\n")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if path.stat().st_ctime_ns != status.st_ctime_ns:
            break
        assert time.time_ns() < later
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert binding._identity_of(str(path)) != before


def test_a_plan_is_not_begun_where_it_would_end_at_once(
    main: Main, plan: Path, tmp_path: Path
) -> None:
    """Before anybody is asked: it is begun only once."""
    (tmp_path / "stop").touch()
    code, _, err = main("run", "p", "--yes", "--stop-file", "stop", "--canary", "1")
    assert code == 3
    assert "  canary    1, then the rest" in err
    assert f"{tmp_path / 'stop'}: the stop file exists, and no call would be made" in err
    assert err.splitlines()[-1] == "nothing was sent"
    code, out, err = main("run", "p", "--dry-run")
    assert code == 0, err
    assert "  reserve   2 calls/s are left to others" in out


def test_another_key_is_another_account_until_somebody_says_so(
    main: Main, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI-another")
    code, _, err = main("run", "p", "--dry-run")
    assert code == 3
    assert f"the plan belongs to {SANDBOX_ACCESS_KEY_ID}, and the credentials now are LTAI-" in err
    assert main("run", "p", "--dry-run", "--same-account")[0] == 0
    code, _, err = main("run", "a.csv", "--endpoint", NOBODY, "--same-account", "--yes")
    assert code == 2
    assert "--same-account: a run from its sources" in err


def test_a_plan_can_be_read_without_the_right_to_carry_it_out(
    main: Main, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ID", "SECRET"):
        monkeypatch.delenv(f"ALIBABA_CLOUD_ACCESS_KEY_{name}")
    code, out, err = main("run", "p", "--dry-run")
    assert code == 0, err
    assert "note      whose account this would be was not compared" in out
    assert main("run", "p", "--yes")[0] == 7


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 3, "no exclusion list is named, and --require-excludes"),
        (b"", 3, "holds: the exclusion list is an empty file"),
        (b"\xef\xbb\xbf \r\n\n", 3, "holds: the exclusion list is an empty file"),
        (b"# no holds, 2026-11-26\n", 0, "entries of"),
        (b"person-0\n", 0, "entry of"),
    ],
)
def test_an_organisation_that_never_runs_without_a_list(
    main: Main, tmp_path: Path, content: bytes | None, code: int, said: str
) -> None:
    write_table(tmp_path / "a.csv", PAIRS)
    flags = ["--endpoint", NOBODY, "-o", "q", "--require-excludes"]
    if content is not None:
        (tmp_path / "holds").write_bytes(content)
        flags += ["--exclude-from", "holds"]
    got, out, err = main("plan", "a.csv", *flags)
    assert got == code, err
    assert said in out + err
    assert (tmp_path / "q" / FILE_NAME).exists() is (code == 0)


class Replaced:
    """Puts things in the place of others, and back again."""

    def __init__(self, plan: Path, directory: Path) -> None:
        self.now_ns = time.time_ns()
        self._plan, self._input = plan, directory / "a.csv"
        self._bytes = self._input.read_bytes()

    def put_another(self) -> None:
        shutil.copytree(self._plan, self._plan.with_name("another"))
        self._plan.rename(self._plan.with_name("first"))
        self._plan.with_name("another").rename(self._plan)

    def restore(self) -> None:
        self._input.write_bytes(self._bytes)
        first = self._plan.with_name("first")
        if first.exists():
            shutil.rmtree(self._plan)
            first.rename(self._plan)


@pytest.mark.parametrize(
    "life",
    [
        (23.9, "", ""),
        (24.1, "", "the plan has expired: it was made at"),
        (1.6, "--plan-ttl=1.5", "was valid for 1.5 hours, and now it is"),
        (1.1, "1", "was valid for 1 hours"),
        (24.1, "48", "was valid for 24 hours"),
        (-0.05, "", ""),
        (-0.1, "", "set the clock of the machine that is wrong"),
    ],
)
def test_a_plan_expires(
    main: Main, plan: Path, monkeypatch: pytest.MonkeyPatch, life: tuple[float, str, str]
) -> None:
    hours, ttl, said = life
    flags = [ttl] if ttl.startswith("--") else []
    if ttl and not flags:
        monkeypatch.setenv("FACEPURGE_PLAN_TTL_HOURS", ttl)
    aged(plan, hours)
    code, out, err = main("run", "p", "--dry-run", *flags)
    assert code == (3 if said else 0), err
    assert said in err
    assert bool(out) is not bool(said)


def test_it_may_expire_while_somebody_thinks(
    main: Main, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So may the input change, and the plan itself."""
    thought: list[Callable[[], object]] = []

    def obtain(*_: object, **__: object) -> None:
        thought[-1]()

    monkeypatch.setattr(consent, "obtain", obtain)
    before = facts(plan)
    replaced = Replaced(plan, tmp_path)

    def later() -> None:
        monkeypatch.setattr(time, "time_ns", lambda: replaced.now_ns + 25 * HOUR_US * 1000)

    for change, said in (
        (lambda: _longer(tmp_path), "a.csv: the file was changed just now"),
        (
            replaced.put_another,
            "another plan was put in the place of the one that was shown",
        ),
        (later, "the plan has expired"),
    ):
        thought.append(change)
        code, _, err = main("run", "p", "--yes")
        assert code == 3
        assert said in err
        assert err.splitlines()[-1] == "nothing was sent"
        replaced.restore()
    assert facts(plan) == before


def test_only_run_begins_a_plan(main: Main, plan: Path, tmp_path: Path) -> None:
    before = (plan / FILE_NAME).read_bytes()
    for words in (("resume", "--yes"), ("retry", "--yes"), ("verify",), ("report",)):
        code, _, err = main(words[0], "p", *words[1:])
        assert code == 3
        assert "p: this is a plan, and it was never begun" in err
        assert "  remedy: carry it out: facepurge run p" in err
    assert not (plan / "report").exists()
    endpoint = ("--endpoint", NOBODY)
    for args, code, said in (
        (("run", "p", "--yes", "--run-dir", "r"), 2, "--run-dir: the run of a plan lives where"),
        (("run", "a.csv", "p", "--yes"), 2, "p: this is the directory of a plan or a run, and it"),
        (("run", "", "--yes", *endpoint), 2, "a source has an empty name"),
        (("plan", "p"), 2, "to see the plan again: facepurge run p --dry-run"),
        (("plan", "a.csv", "-o", "q", "--run-dir", "r"), 2, "--output and --run-dir contradict"),
        (("plan", "a.csv", "-o", "p", *endpoint), 3, "a run or a plan lives here already"),
        (("run", "a.csv", "--run-dir", "p", "--yes", *endpoint), 3, "carry out a plan: facepurge"),
        (
            ("plan", "a.csv", "-o", "parts", *endpoint),
            3,
            "choose a new or an empty directory with -o",
        ),
        (("plan", "a.csv", "-o", "-", *endpoint), 2, "-o: a plan is a directory"),
        (("plan", "a.csv", "-o", "q"), 2, "neither a region nor an endpoint"),
    ):
        got, _, err = main(*args)
        assert got == code, err
        assert said in err
        assert err.splitlines()[-1] == "nothing was sent"
    assert (plan / FILE_NAME).read_bytes() == before
    assert not (tmp_path / "q").exists()


def _half(plan: Path) -> None:
    (plan / FILE_NAME).rename(plan / DRAFT_NAME)


def _linked(plan: Path) -> None:
    (plan / FILE_NAME).rename(plan.parent / "elsewhere")
    (plan / FILE_NAME).symlink_to(plan.parent / "elsewhere")


def _a_link(plan: Path) -> None:
    plan.rename(plan.parent / "real")
    plan.symlink_to("real")


def _emptied(plan: Path) -> None:
    for path in plan.iterdir():
        path.unlink()


def _foreign(plan: Path) -> None:
    _emptied(plan)
    (plan / "a.csv").touch()


def _theirs(plan: Path) -> None:
    for path in (plan, plan / FILE_NAME):
        os.chown(path, 65534, 65534)


def _another_face(plan: Path) -> None:
    connection = apsw.Connection(str(plan / FILE_NAME))
    connection.execute("UPDATE run SET value = '27' WHERE key = 'faces'")
    connection.close()


def _an_unknown_setting(plan: Path) -> None:
    altered(plan, "UPDATE run SET value = '{\"warp\": 9}' WHERE key = 'settings'")


def _another_program(plan: Path) -> None:
    altered(plan, "UPDATE run SET value = '\"0.0.1\"' WHERE key = 'program_version'")


def _confirmed_in_one_go(plan: Path) -> None:
    altered(plan, "DELETE FROM run WHERE key = 'bound'")


DIRECTORIES: dict[str, tuple[Change, str]] = {
    "empty": (_emptied, "p: this is a directory, and there is no plan in it"),
    "foreign": (_foreign, "facepurge run p/*.csv"),
    "half a plan": (_half, "make it again in the same place: facepurge plan SOURCE... -o p"),
    "a link to one": (_a_link, "p: the directory of the plan is a symbolic link"),
    "a ledger that is a link": (_linked, "ledger.sqlite3: it is a symbolic link"),
    "open to all": (lambda p: p.chmod(0o777), "p: it may be written by others"),
    "an open ledger": (lambda p: (p / FILE_NAME).chmod(0o620), "it may be written by others"),
    "of another format": (lambda p: altered(p, "PRAGMA user_version = 1"), "has format 1"),
    "of another program": (lambda p: altered(p, "PRAGMA application_id = 1"), "not a ledger of"),
    "of another version": (_another_program, "the plan was made by version 0.0.1, and this is"),
    "with settings unknown": (_an_unknown_setting, "whose settings this version"),
    "altered": (_another_face, "its run is not the one that was planned"),
    "a run": (_confirmed_in_one_go, "planned and confirmed in one go, no plan"),
    "somebody else's": (_theirs, "p: it belongs to another user (UID 65534, and this is"),
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_that_is_no_plan_of_ones_own(main: Main, plan: Path, name: str) -> None:
    if name == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    change, said = DIRECTORIES[name]
    change(plan)
    before = sorted(plan.iterdir())
    code, out, err = main("run", "p", "--yes")
    assert (code, out) == (3, ""), err
    assert said in err
    assert "  remedy: " in err
    assert err.splitlines()[-1] == "nothing was sent"
    if "lock" not in {path.name for path in before}:
        assert sorted(plan.iterdir()) == before


def test_a_directory_that_cannot_be_written_is_left_alone(main: Main, plan: Path) -> None:
    """Also by root, for whom permissions are no obstacle: a directory is where the lock would be."""
    (plan / LOCK_NAME).unlink()
    (plan / LOCK_NAME).mkdir()
    code, _, err = main("run", "p", "--yes")
    assert code == 3
    assert "the lock cannot be taken" in err


def test_what_can_be_read_only_once_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")
    Path("a.csv").touch()
    figures = draft_run(tmp_path / "r", [rows([("p", "1")])])
    names = ("-", "a.csv", "/dev/stdin", "/proc/self/status", "pipe.csv")
    binding = bound(names, names, load({}, {}), figures)
    assert binding.streams == ("-", "/dev/stdin", "/proc/self/status", "pipe.csv")
    assert binding.directory == str(tmp_path)
    assert msgspec.convert(msgspec.to_builtins(binding), Binding) == binding


def test_a_long_comparison_says_how_far_it_is(
    main: Main, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []

    class Log:
        def info(self, event: str, *, mebibytes: int) -> None:
            told.append((event, mebibytes))

    monkeypatch.setattr(bound_plan, "PROGRESS_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(bound_plan, "get_log", Log)
    assert main("run", "p", "--dry-run", "-q")[0] == 0
    assert told == []
    assert main("run", "p", "--dry-run")[0] == 0
    assert told == [("comparing", 0)] * 3


def test_many_differences_are_shown_up_to_a_point(main: Main, plan: Path, tmp_path: Path) -> None:
    for number in range(30):
        write_table(tmp_path / "parts" / f"new-{number}.csv", persons(1, first=50))
    code, _, err = main("run", "p", "--yes")
    assert code == 3
    assert err.count("the file is not in the plan") == 21
    assert "  ... and 10 more\n" in err
    assert "and 29 more differences" in err


def test_a_ledger_that_somebody_else_has_locked_is_no_error_of_the_program(
    main: Main, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE_MS", 1)
    monkeypatch.setattr(database, "WRITERS_PATIENCE_MS", 1)
    connection = apsw.Connection(str(plan / FILE_NAME))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    code, _, err = main("run", "p", "--yes")
    connection.close()
    assert code == 3
    assert "p: the plan cannot be read or written (" in err
    assert err.splitlines()[-1] == "nothing was sent"


def test_a_plan_that_is_late_by_now_says_so(main: Main, tmp_path: Path) -> None:
    jobs = [(f"person-{n}", f"{n:04}", due_in(1.0)) for n in range(3)]
    write_table(tmp_path / "a.csv", jobs, ("person_id", "face_id", "due_at"))
    assert main("plan", "a.csv", "--endpoint", NOBODY, "-o", "p")[0] == 0
    document = json.loads(main("run", "p", "--dry-run", "--json")[1])
    assert document["forecast"]["late_jobs"] == 0
    altered(tmp_path / "p", "UPDATE due SET due_us = due_us - ?", (HOUR_US + HOUR_US // 2,))
    document = json.loads(main("run", "p", "--dry-run", "--json")[1])
    assert document["forecast"]["late_jobs"] == 3


def due_in(hours: float) -> str:
    """That many hours from now, in UTC."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
