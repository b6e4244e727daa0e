"""``facepurge doctor``: questions whose answers change nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from worker.cli import stderr, stdout
from worker.cli.ending import known
from worker.cli.options import (
    config_option,
    configuration,
    json_option,
    log_options,
    service_options,
)
from worker.cli.verb import GroupedOption, verb

if TYPE_CHECKING:
    from pathlib import Path

    from worker.calibration import Calibration
    from worker.configuration import Configuration
    from worker.green.endpoint import Endpoint
    from worker.settings import Settings

EXAMPLES = """\
facepurge doctor --calibrate --region cn-shanghai
facepurge doctor --calibrate --config purge.toml --json"""

NOTHING_RECORDED: Final = "nothing was deleted, and nothing was recorded"

_MEANINGS: Final = {
    "code-404": "a refusal with code 404",
    "code-400": "a refusal with code 400",
    "empty-data": "a good answer without data",
    "empty-list": "the same as about a person without faces, so that no lookup can tell the two"
    " apart",
}


@verb("doctor", examples=EXAMPLES)
@click.option(
    "--calibrate",
    is_flag=True,
    cls=GroupedOption,
    heading="Checks",
    help="Find out and record what this account answers about a person who does not exist.",
)
@service_options
@config_option
@json_option
@log_options
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    *,
    calibrate: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Ask the service what its documentation does not say. Deletes nothing.

    There is one check, --calibrate: it looks up two persons whose IDs were made up just now. What
    the service answers is recorded for this user, account and endpoint, and tells later runs
    which answers mean that a person is not known.
    """
    if not calibrate:
        raise click.UsageError("--calibrate is missing: it is the only check that doctor has", ctx)
    from worker import telemetry  # noqa: PLC0415 (start-up: --help needs none of these)
    from worker.calibration import record  # noqa: PLC0415
    from worker.cli import consent, purge  # noqa: PLC0415

    with known(NOTHING_RECORDED), _as_checks():
        with consent.terminating():
            given = configuration(ctx)
            stderr.begin(given.settings.log_format)
            telemetry.configure(given.settings.log_format, verbose - quiet, sys.stderr)
            endpoint = purge.endpoint_of(given.settings)
            account = purge.account_of(given.settings)
        found = _asked(given.settings, account, endpoint)
    with known(f'nothing was deleted; the answer found was "{found.answer}"'):
        with consent.terminating():
            path = record(found)
            _say(found, path, json=json)
        _compare(found, given)
    stderr.write("nothing was deleted; two lookups of made-up persons were sent")
    return 0


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


def _say(found: Calibration, path: Path, *, json: bool) -> None:
    import msgspec  # noqa: PLC0415 (start-up)

    if json:
        document = {
            "unknown_person": found.answer,
            **msgspec.structs.asdict(found),
            "recorded": str(path),
        }
        del document["answer"]
        stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode())
        return
    stdout.write(
        "\n".join(
            [
                f"unknown person: {_MEANINGS[found.answer]} (HTTP {found.http_status})",
                f"  endpoint  {found.endpoint}",
                f"  account   {found.account}",
                f"  recorded  {path}",
                "Later runs of this account and endpoint go by it. To say it in a configuration:",
                f'unknown_person = "{found.answer}"',
            ]
        )
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
