"""``facepurge doctor``: questions whose answers change nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from worker.cli import stderr, stdout
from worker.cli.ending import known
from worker.cli.finding import Finding, Grade, ended, named
from worker.cli.options import (
    config_option,
    configuration,
    flags_to_settings,
    json_option,
    log_options,
    run_dir_option,
    service_options,
)
from worker.cli.parameters import Count
from worker.cli.verb import GroupedOption, typed, verb

if TYPE_CHECKING:
    from worker.calibration import Calibration
    from worker.configuration import Configuration
    from worker.errors import FacepurgeError
    from worker.green.endpoint import Endpoint
    from worker.settings import Settings

EXAMPLES = """\
facepurge doctor --region cn-shanghai
facepurge doctor --config configs/retention-purge.toml --rows 2000000 --run-dir /data/runs
facepurge doctor runs/2026-11-retention --json
facepurge doctor --calibrate --region cn-shanghai
facepurge doctor --checks --calibrate --config purge.toml --json"""

NOTHING_RECORDED: Final = "nothing was deleted, and nothing was recorded"
NOTHING_DELETED: Final = "nothing was deleted"

_MEANINGS: Final = {
    "code-404": "a refusal with code 404",
    "code-400": "a refusal with code 400",
    "empty-data": "a good answer without data",
    "empty-list": "the same as about a person without faces, so that no lookup can tell the two"
    " apart",
}

_check = partial(click.option, cls=GroupedOption, heading="Checks")


@verb("doctor", examples=EXAMPLES)
@click.argument("plan", metavar="[DIR]", required=False)
@_check(
    "--rows",
    type=Count(1, 10**12, "rows"),
    metavar="N",
    help="Rows of the planned input, to see whether there is room for them.",
)
@_check(
    "--calibrate",
    is_flag=True,
    help="Find out and record what this account answers about a person who does not exist.",
)
@_check("--checks", is_flag=True, help="With --calibrate: make all the checks as well, before it.")
@service_options
@config_option
@run_dir_option
@json_option
@log_options
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    plan: str | None,
    *,
    rows: int | None,
    calibrate: bool,
    checks: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Check everything that a run needs, and say what to do where something is missing.

    One line for each of configuration, credentials, account, DNS, connection with its certificate,
    clock, permission, quota, disk and versions: ok, warn, FAIL or skipped. Deletes nothing; what is
    sent is one lookup of a person whose ID was made up just now, and one question to STS. DIR is a
    plan or a run: its rows are those that need room, and its service and account are checked, unless
    flags or the configuration name others. Ends with 1 where a check has failed.

    With --calibrate it looks up two made-up persons instead. What the service answers is recorded
    for this user, account and endpoint, and tells later runs which answers mean that a person is
    not known.
    """
    _refuse_contradictions(ctx, plan, rows, calibrate=calibrate, checks=checks)
    from worker import telemetry  # noqa: PLC0415 (start-up: --help needs none of these)
    from worker.errors import FacepurgeError  # noqa: PLC0415

    given: Configuration | FacepurgeError
    alone = calibrate and not checks
    with known(NOTHING_RECORDED if calibrate else NOTHING_DELETED):
        try:
            given = configuration(ctx)
            log_format = given.settings.log_format
        except FacepurgeError as error:
            given, log_format = error, ctx.params.get("log_format") or "console"
        stderr.begin(log_format)
        telemetry.configure(log_format, verbose - quiet, sys.stderr)
        if alone and isinstance(given, FacepurgeError):
            with _as_checks():
                raise given
    if plan is not None and not isinstance(given, FacepurgeError):
        from worker.cli.checkup import of_its_run  # noqa: PLC0415

        given = of_its_run(given, Path(plan))
    document: dict[str, object] = {}
    findings: list[Finding] = []
    if not alone:
        with known(NOTHING_DELETED):
            findings = _checked(ctx, given, rows, plan)
        document |= _document(findings)
        if not json:
            stdout.write("\n".join(finding.as_line() for finding in findings))
    bad = named(findings, Grade.FAIL)
    if calibrate and not bad:
        assert not isinstance(given, FacepurgeError)
        try:
            document |= _calibrated(given, json=json, beside=bool(document))
        except BaseException:
            if json and findings:
                _write(document)
            raise
    if json:
        _write(document)
    if alone:
        stderr.write("nothing was deleted; two lookups of made-up persons were sent")
    else:
        stderr.write(_last_line(findings, typed(ctx), calibrate=calibrate))
    return 1 if bad else 0


def _refuse_contradictions(
    ctx: click.Context, plan: str | None, rows: int | None, *, calibrate: bool, checks: bool
) -> None:
    if checks and not calibrate:
        raise click.UsageError(
            "--checks says nothing without --calibrate: the checks are made anyway; leave it out",
            ctx,
        )
    disk = [name for name, said in (("DIR", plan), ("--rows", rows)) if said is not None]
    if disk and calibrate and not checks:
        raise click.UsageError(
            f"{disk[0]} is about the disk, and --calibrate alone does not look at it; add --checks",
            ctx,
        )
    if ctx.params.get("run_dir") is not None:
        disk = [*disk[:1], "--run-dir"] if plan is not None else []
    if len(disk) > 1:
        raise click.UsageError(
            f"{disk[0]} and {disk[1]} contradict each other: DIR has its own rows and place; keep"
            " one",
            ctx,
        )


def _checked(
    ctx: click.Context,
    given: Configuration | FacepurgeError,
    rows: int | None,
    plan: str | None,
) -> list[Finding]:
    from worker.cli.calibrating import heeding_signals  # noqa: PLC0415 (start-up)
    from worker.cli.checkup import Order, examined  # noqa: PLC0415

    order = Order(given, flags_to_settings(ctx), rows, Path(plan) if plan is not None else None)
    return heeding_signals(lambda: examined(order))


def _document(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "good": not named(findings, Grade.FAIL),
        "checks": [
            {
                "check": finding.check,
                "grade": finding.grade.lower(),
                "sentence": ended(finding.sentence),
                "remedy": ended(finding.remedy) if finding.remedy else "",
            }
            for finding in findings
        ],
    }


def _last_line(findings: Sequence[Finding], command: str, *, calibrate: bool) -> str:
    """What came out, that nothing was deleted, and what to type next; ``command`` asks again."""
    bad, doubtful = (named(findings, grade) for grade in (Grade.FAIL, Grade.WARN))
    sent = 0 if any(f.check == "permission" and f.grade is Grade.SKIPPED for f in findings) else 1
    lookups = sent + (2 if calibrate and not bad else 0)
    number = {0: "no lookup", 1: "one lookup of a made-up person"}
    asked = number.get(lookups, f"{lookups} lookups of made-up persons")
    deleted = f"{NOTHING_DELETED}, {asked} {'was' if lookups < 2 else 'were'} sent"
    if bad:
        left = "; nothing was calibrated" if calibrate else ""
        return f"failed: {bad}; {deleted}{left}; do what these lines say, then type: {command}"
    doubt = f"nothing failed, look at: {doubtful}" if doubtful else "all is well"
    return f"{doubt}; {deleted}; to see what a run would do type: facepurge plan SOURCE..."


def _calibrated(given: Configuration, *, json: bool, beside: bool) -> dict[str, object]:
    """Ask, record and compare; what was found, for ``--json``."""
    from worker.calibration import record  # noqa: PLC0415 (start-up)
    from worker.cli import purge  # noqa: PLC0415
    from worker.cli.account import established  # noqa: PLC0415

    with known(NOTHING_RECORDED), _as_checks():
        endpoint = purge.endpoint_of(given.settings)
        account = established(given.settings).name
        found = _asked(given.settings, account, endpoint)
    with known(f'nothing was deleted; the answer found was "{found.answer}"'):
        path = record(found)
        document = _found(found, path)
        if not json:
            stdout.write(_told(found, path))
        try:
            _compare(found, given)
        except BaseException:
            if json and not beside:
                _write(document)
            raise
    return {"calibration": document} if beside else document


def _write(document: Mapping[str, object]) -> None:
    import msgspec  # noqa: PLC0415 (start-up)

    stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode())


@contextmanager
def _as_checks() -> Iterator[None]:
    """What closes a gate or stops a run is here what the check has found: exit code 1."""
    from worker.cli.calibrating import CheckFailed  # noqa: PLC0415 (start-up)
    from worker.errors import GateClosed, RunStopped  # noqa: PLC0415

    try:
        yield
    except (GateClosed, RunStopped) as error:
        raise CheckFailed(error.cause, error.remedy) from error


def _asked(settings: Settings, account: str, endpoint: Endpoint) -> Calibration:
    from worker.calibration import path_of  # noqa: PLC0415 (start-up)
    from worker.cli.calibrating import asked  # noqa: PLC0415
    from worker.errors import GateClosed  # noqa: PLC0415
    from worker.locks import quota_lock  # noqa: PLC0415

    place = path_of(account, endpoint.url_base)
    try:
        # Lookups count against the account's quota, whoever makes them.
        with quota_lock(account, endpoint.url_base, place):
            return asked(settings, account, endpoint)
    except GateClosed as closed:
        held = closed.__cause__ is None
        remedy = "wait until it has ended, then ask again" if held else closed.remedy
        raise GateClosed(closed.cause, remedy) from closed


def _found(found: Calibration, path: Path) -> dict[str, object]:
    import msgspec  # noqa: PLC0415 (start-up)

    document = {
        "unknown_person": found.answer,
        **msgspec.structs.asdict(found),
        "recorded": str(path),
    }
    del document["answer"]
    return document


def _told(found: Calibration, path: Path) -> str:
    return "\n".join(
        [
            f"unknown person: {_MEANINGS[found.answer]} (HTTP {found.http_status})",
            f"  endpoint  {found.endpoint}",
            f"  account   {found.account}",
            f"  recorded  {path}",
            "Later runs of this account and endpoint go by it. To say it in a configuration:",
            f'unknown_person = "{found.answer}"',
        ]
    )


def _compare(found: Calibration, given: Configuration) -> None:
    """Raise ``CheckFailed`` where the configuration says something else than the service."""
    from worker.cli.calibrating import CheckFailed  # noqa: PLC0415 (start-up)

    said = given.settings.unknown_person
    if said and said != found.answer:
        raise CheckFailed(
            f"{given.origins['unknown_person']}: it says {said!r} and wins over the record, but"
            f" the service answers as in {found.answer!r}",
            f'write unknown_person = "{found.answer}", or leave it away',
        )
