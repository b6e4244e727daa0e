from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import worker.cli
from worker.cli import ending, stdout
from worker.cli.options import log_options
from worker.cli.verb import verb
from worker.errors import (
    FacepurgeError,
    GateClosed,
    InputRefused,
    LedgerFailed,
    ReportFailed,
    RunStopped,
    UsageRefused,
)

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Runs ``facepurge`` in this process, with ``body`` as its verb ``probe``."""

    monkeypatch.setattr(stdout._state, "lost", "")  # and intact again for the next test

    def run(*args: str, body: Callable[[], int | None] | None = None) -> tuple[int, str, str]:
        if body is not None:

            @verb("probe")
            @log_options
            def probe(**_flags: object) -> int | None:
                return body()

            module = types.ModuleType("probe_verb")
            module.__dict__["probe"] = probe
            monkeypatch.setitem(sys.modules, "probe_verb", module)
            monkeypatch.setitem(worker.cli.VERBS, "probe", ("probe_verb:probe", "A probe."))
        with pytest.raises(SystemExit) as exit_:
            worker.cli.main(args)
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, captured.out, captured.err

    return run


def _raising(error: BaseException) -> Callable[[], int | None]:
    def body() -> int | None:
        raise error

    return body


def test_help_names_every_verb_and_imports_none(main: Main) -> None:
    code, out, err = main("--help")
    assert (code, err) == (0, "")
    for name, (_, line) in worker.cli.VERBS.items():
        assert name in out
        assert line in out
    script = (
        "import sys, worker.cli\n"
        "try: worker.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'apsw', 'msgspec', 'rich', 'asyncio', 'structlog', 'zstandard'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", list(worker.cli.VERBS))
def test_every_verb_explains_itself(main: Main, name: str) -> None:
    code, out, err = main(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: facepurge {name} ")
    assert "--help" in out


def test_version(main: Main) -> None:
    assert main("--version") == (0, f"facepurge {worker.__version__}\n", "")


def test_a_verb_gives_its_exit_code(main: Main) -> None:
    for code in (0, 4, 10, 143):
        assert main("probe", body=functools.partial(int, code)) == (code, "", "")
    assert main("probe", body=lambda: None)[0] == 0


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((), "a verb is missing: run, plan"),
        (("rnu",), "'rnu' is not a verb: did you mean run?"),
        (("xyzzy",), "'xyzzy' is not a verb: the verbs are run, plan"),
        (("--vresion",), "--vresion is not a flag of facepurge: did you mean --version?"),
        (
            ("probe", "--verbos"),
            "--verbos is not a flag of facepurge probe: did you mean --verbose?",
        ),
        (("probe", "--log-format", "xml"), "--log-format: 'xml' is not one of"),
        (("probe", "-v", "-q"), "--verbose and --quiet contradict each other: -v asks"),
        (("probe", "extra"), "Got unexpected extra argument"),
    ],
)
def test_wrong_usage(main: Main, args: tuple[str, ...], sentence: str) -> None:
    code, out, err = main(*args, body=lambda: 0)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0].startswith("facepurge: ")
    assert sentence in lines[0].replace("(", "")
    assert lines[1].startswith("  remedy: see facepurge")
    assert lines[-1] == "nothing was sent"


def test_a_credential_is_no_flag_and_is_not_repeated(main: Main) -> None:
    code, _, err = main("probe", "--access-key-secret=hush", body=lambda: 0)
    assert code == 2
    assert "hush" not in err
    assert "ALIBABA_CLOUD_ACCESS_KEY_SECRET" in err
    assert err.endswith("nothing was sent\n")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UsageRefused, 2),
        (InputRefused, 2),
        (GateClosed, 3),
        (LedgerFailed, 7),
        (RunStopped, 7),
        (ReportFailed, 1),
    ],
)
def test_our_errors_are_sentences_and_codes(
    main: Main, kind: type[FacepurgeError], code: int
) -> None:
    error = kind("a.csv: the place and the cause", "what to do")
    assert main("probe", body=_raising(error))[0] == code
    assert (
        main("probe", body=_raising(ExceptionGroup("tasks", [error, ValueError("x")])))[0] == code
    )
    _, _, err = main("probe", body=_raising(error))
    lines = err.splitlines()
    assert lines[:2] == ["facepurge: a.csv: the place and the cause", "  remedy: what to do"]
    assert (lines[-1] == "nothing was sent") is (code in (2, 3))


def test_of_several_errors_the_gravest_decides(main: Main) -> None:
    group = ExceptionGroup(
        "tasks",
        [GateClosed("gate"), ExceptionGroup("more", [RunStopped("stopped")]), UsageRefused("use")],
    )
    code, _, err = main("probe", body=_raising(group))
    assert code == 7
    assert err.startswith("facepurge: stopped\n")


def test_what_is_known_is_the_last_line_and_the_innermost_knows_best(main: Main) -> None:
    def body() -> int:
        with ending.known(ending.NOTHING_SENT), ending.known("next: facepurge resume runs/a"):
            raise LedgerFailed("runs/a/ledger.sqlite3: the disk is full", "make room")

    code, _, err = main("probe", body=body)
    assert code == 7
    assert err.splitlines()[-1] == "next: facepurge resume runs/a"

    with pytest.raises(ExceptionGroup) as caught, ending.known("outside"):
        raise ExceptionGroup("tasks", [RunStopped("stopped")])
    assert main("probe", body=_raising(caught.value))[2].splitlines()[-1] == "outside"


def test_an_interruption_is_130(main: Main) -> None:
    for error in (KeyboardInterrupt(), BaseExceptionGroup("tasks", [KeyboardInterrupt()])):
        code, _, err = main("probe", body=_raising(error))
        assert code == 130
        assert err.startswith("facepurge: interrupted\n")


def test_an_unexpected_error_shows_its_place_and_never_its_words(main: Main) -> None:
    def body() -> int:
        token = "sts-token-hush"
        try:
            raise KeyError(token)
        except KeyError as error:
            raise RuntimeError(f"signature of {token}") from error

    code, out, err = main("probe", body=body)
    assert (code, out) == (1, "")
    assert "an error of the program itself (RuntimeError at worker/cli/verb.py:" in err
    assert "ledger" in err.splitlines()[-1]
    code, _, verbose = main("probe", "-v", body=body)
    assert code == 1
    assert "KeyError came through:" in verbose
    assert "in body" in verbose
    for text in (err, verbose):
        assert "hush" not in text
        assert "Traceback" not in text


def test_messages_keep_to_their_line(main: Main) -> None:
    code, _, err = main(
        "probe", body=_raising(InputRefused("a\x1b[2J\r\nb.csv: cut", "look\nat it"))
    )
    assert code == 2
    assert err == "facepurge: a\\x1b[2J\\r\\nb.csv: cut\n  remedy: look\\nat it\nnothing was sent\n"


def test_a_lost_stdout_is_no_success_and_stops_nothing(
    main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    went_on = []

    def body(code: int) -> int:
        stdout.write("result")
        stdout.write("more")
        went_on.append(code)
        return code

    monkeypatch.setattr(sys, "stdout", Full())
    code, _, err = main("probe", body=lambda: body(0))
    assert code == 1
    assert err == "facepurge: stdout: the result could not be written: No space left on device\n"
    assert main("probe", body=lambda: body(5))[0] == 5
    assert went_on == [0, 5]


def _help(redirection: str) -> tuple[int, str]:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m worker --help {redirection}', sys.executable],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr


def test_a_closed_stdout() -> None:
    sentence = "facepurge: stdout: the result could not be written: it is closed\n"
    assert _help(">&-") == (1, sentence)


def test_a_closed_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writing)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == "facepurge: stdout: the result could not be written: Broken pipe\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_device() -> None:
    code, err = _help(">/dev/full")
    assert code == 1
    assert err.startswith("facepurge: stdout: the result could not be written: No space")


def test_a_stderr_that_cannot_be_written_changes_no_code() -> None:
    readonly = os.open(os.devnull, os.O_RDONLY)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "nonsense"],
        check=False,
        stderr=readonly,
        stdout=subprocess.PIPE,
    )
    os.close(readonly)
    assert (done.returncode, done.stdout) == (2, b"")


def test_completion_knows_verbs_and_flags_without_importing_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = click.Context(worker.cli.facepurge, info_name="facepurge")
    verbs = worker.cli.facepurge.shell_complete(context, "re")
    assert [item.value for item in verbs] == ["resume", "retry", "report"]
    flags = worker.cli.facepurge.shell_complete(context, "--v")
    assert [item.value for item in flags] == ["--version"]
    environment = {**os.environ, "_FACEPURGE_COMPLETE": "bash_source"}
    done = subprocess.run(
        [sys.executable, "-m", "worker"],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "_facepurge_completion" in done.stdout
