"""What every verb has in common: the nearest known flag, contradictions, examples, a quick help."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import worker.cli
from tests.e2e.program import Program
from worker.cli.parameters import Rate
from worker.cli.verb import CONTRADICTIONS, CONTRADICTORY_VALUES, Verb
from worker.limits import RANGES

CONTEXT = click.Context(worker.cli.facepurge)
COMMANDS = {name: worker.cli.facepurge.get_command(CONTEXT, name) for name in worker.cli.VERBS}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--max-delet", "4"), "--max-delet is not a flag of facepurge run: did you mean --max-delete?"),
        (("plan", "--regoin", "x"), "--regoin is not a flag of facepurge plan: did you mean --region?"),
        (("config", "show", "--rat", "5"), "is not a flag of facepurge config: did you mean --rate?"),
        (("doctor", "--calibrat"), "did you mean --calibrate?"),
        (("pause", "r", "--now"), "--now is not a flag of facepurge pause: none of its flags is near"),
        (("run", "a.csv", "--output", "r"), "--output is not a flag of facepurge run: none of its"),
        (("resume", "r", "--exclude-from", "x"), "of facepurge resume: none of its flags is near"),
        (("run", "--zzzz"), "--zzzz is not a flag of facepurge run: none of its flags is near that"),
        (("sandbox", "-z"), "-z is not a flag of facepurge sandbox: none of its flags"),
        (("run", "--" + "x" * 5000), "--" + "x" * 38 + " is not a flag"),
        (("rnu",), "'rnu' is not a verb: did you mean run?"),
        (("--vresion",), "--vresion is not a flag of facepurge: did you mean --version?"),
        (("--zzzz", "run"), "--zzzz is not a flag of facepurge: none of its flags is near that"),
        (("-z",), "-z is not a flag of facepurge: none of its flags is near that"),
        (("--sandbox", "plan", "a.csv"), "--sandbox belongs behind its verb: facepurge plan ... --sandbox"),
        (("--dry-run", "plan", "a.csv"), "--dry-run belongs behind its verb: facepurge run ... --dry-run"),
        (("-q", "report", "r"), "-q belongs behind its verb: facepurge report ... -q"),
    ],
)  # fmt: skip
def test_an_unknown_flag_names_the_nearest(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(worker.cli.facepurge, arguments, prog_name="facepurge")
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pause",), "Missing argument 'RUN_DIR'"),
        (("unpause", "r", "--now"), "--now is not a flag of facepurge unpause"),
        (("stop", "r", "s"), "Got unexpected extra argument (s)"),
        (("rate", "r"), "Missing argument 'N'"),
        (("rate", "r", "fast"), "rate: found 'fast', and a number of calls per second from 0.001"),
        (("rate", "r", "0.0001"), "rate: found '0.0001', and a number of calls per second"),
        (("rate", "r", "-5"), "rate: found '-5', and a number of calls per second from 0.001"),
        (("rate", "r", "-0.5", "--json"), "rate: found '-0.5', and a number of calls per second"),
        (("rate", "r", "--5"), "--5 is not a flag of facepurge rate"),
    ],
)
def test_an_order_that_cannot_be_meant_does_not_say_that_nothing_is_sent(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        worker.cli.main(arguments)
    assert ended.value.code == 2
    first, remedy, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"facepurge: {said}")
    assert remedy == f"  remedy: see facepurge {arguments[0]} --help"
    assert last == "no order was given"


def test_a_flag_without_its_value_is_explained_by_the_help_of_its_verb(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        worker.cli.main(["run", "a.csv", "--stop-file"])
    assert capsys.readouterr().err.splitlines() == [
        "facepurge: Option '--stop-file' requires an argument",
        "  remedy: see facepurge run --help",
        "nothing was sent",
    ]


def test_the_numbers_of_a_flag_are_those_of_its_setting() -> None:
    assert (Rate.least, Rate.greatest) == RANGES["rate_per_second"][:2]


def test_who_sets_a_rate_is_told_from_where_on_it_is_throttled() -> None:
    assert "Above 19.8" in (COMMANDS["rate"].help or "")  # type: ignore[union-attr]


async def test_a_flag_that_would_hold_a_secret_is_refused_without_it(program: Program) -> None:
    ended = await program("run", "a.csv", "--access-key-secret", "hush")
    assert ended.code == 2
    assert "credentials are not taken from here" in ended.err
    assert "hush" not in ended.err


@pytest.fixture
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_verb_says_what_it_does_and_shows_how(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Verb)
    assert command.help
    assert command.help.split(".")[0].strip()
    assert command.epilog, "there are examples"
    typed = [line.strip() for line in command.epilog.splitlines() if f"facepurge {name}" in line]
    assert typed
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.name
            assert param.help[0].isupper() or param.help.startswith("none"), param.help
            assert param.help.endswith("."), param.help


VALUES = {
    "confirm": "3",
    "concurrency": "3",
    "rate": "5",
    "reserve": "2",
    "outside_window": "wait",
    "signature": "v3",
}
"""Of flags that take not just any text."""


def typed(name: str, verb: str, value: str = "") -> list[str]:
    """The flag of a parameter as it is typed."""
    command = COMMANDS[verb]
    assert command is not None
    (param,) = [param for param in command.params if param.name == name]
    assert isinstance(param, click.Option)
    return [param.opts[-1]] if param.is_flag or param.count else [param.opts[-1], value]


def named(verb: str) -> list[str]:
    """What a verb is about, where it needs that."""
    return {"sandbox": [], "config": ["show"]}.get(verb, ["x"])


def of_both(one: str, other: str) -> list[str]:
    """The verbs that have both parameters."""
    return [
        name
        for name, command in COMMANDS.items()
        if command is not None and {one, other} <= {param.name for param in command.params}
    ]


@pytest.mark.parametrize(("one", "other", "why"), CONTRADICTIONS)
def test_contradictions_are_refused_wherever_both_flags_exist(
    one: str, other: str, why: str
) -> None:
    assert of_both(one, other)
    for verb in of_both(one, other):
        flags = [typed(name, verb, VALUES.get(name, "x")) for name in (one, other)]
        arguments = [verb, *flags[1], *flags[0], *named(verb)]
        result = CliRunner().invoke(worker.cli.facepurge, arguments, prog_name="facepurge")
        assert result.exit_code == 2, arguments
        said = f"{flags[0][0]} and {flags[1][0]} contradict each other: {why}; keep one"
        assert said in result.output


CONTRADICTING = [
    ("format", "jsonl", "delimiter", ";", "and JSON has none"),
    ("format", "tsv", "delimiter", ";", "tsv says that tabs stand between the columns"),
    ("format", "tsv", "delimiter", "\t", ""),
    ("format", "csv", "delimiter", ";", ""),
    ("format", "json", "whole_persons", "", "it is about tables without a face column"),
    ("format", "csv", "whole_persons", "", ""),
    ("columns", "person=p,face=f", "whole_persons", "", "one names a face column"),
    ("columns", "person=p", "whole_persons", "", ""),
    ("quota", "off", "quota_rate", "5", "without a quota no call is counted or refused"),
    ("quota", "off", "quota_burst", "5", "without a quota no call"),
    ("quota", "off", "quota_shared", "", "without a quota no call"),
    ("quota", "off", "quota_count_throttled", "", "without a quota no call"),
    ("quota", "off", "throttle", "http-429", "without a quota no call"),
    ("quota", "off", "retry_after", "1", "without a quota no call"),
    ("quota", "off", "acs_retry_after", "1", "without a quota no call"),
    ("quota", "calendar", "quota_rate", "5", ""),
    ("quota", "calendar", "quota_burst", "5", "only a bucket saves up calls"),
    ("quota", "bucket", "quota_burst", "5", ""),
    ("state", "x", "log", "x", "the request log would be written into the state"),
    ("state", "x", "log", "y", ""),
]
"""One parameter and its value, another and its, and what is said to them together."""


@pytest.mark.parametrize("case", CONTRADICTING)
def test_values_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str, str]
) -> None:
    one, value, other, other_value, refused = case
    assert of_both(one, other)
    for verb in of_both(one, other):
        command = COMMANDS[verb]
        assert command is not None
        flags = [*typed(one, verb, value), *typed(other, verb, other_value)]
        context = command.make_context(verb, [*flags, *named(verb)])
        monkeypatch.setattr(command, "callback", None)  # what is refused is refused before it
        try:
            command.invoke(context)
            said = ""
        except click.UsageError as error:
            said = str(error)
        assert bool(said) == bool(refused), flags
        assert refused in said


def test_every_pair_of_values_that_contradict_is_tried() -> None:
    tried = {(one, other) for one, _, other, _, refused in CONTRADICTING if refused}
    assert tried == {(one, other) for one, other, _, _ in CONTRADICTORY_VALUES}


def test_help_imports_nothing_heavy() -> None:
    """What a start takes is what it imports; seconds depend on who else uses the machine."""
    program = (
        "import sys, worker.cli\n"
        "try: worker.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'apsw', 'rich', 'msgspec', 'structlog', 'asyncio', 'duckdb', 'ssl'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for arguments in (["--help"], *([name, "--help"] for name in COMMANDS)):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == "[]\n", arguments
