"""``facepurge config show``: each setting in force, and where it came from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import click

from worker.cli import stderr, stdout
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import SETTING_OF, config_option, configuration, json_option
from worker.cli.run import run
from worker.cli.verb import verb

if TYPE_CHECKING:
    from worker.configuration import Configuration

EXAMPLES = """\
facepurge config show
facepurge config show --config configs/retention-purge.toml --rate 5
facepurge config show --json | jq .settings.rate_per_second
# what is in force now, as a file of its own
facepurge config show --config purge.toml --max-delete 5000 > effective.toml"""

Origin = Literal["flag", "environment", "file", "default"]


class _What(click.Choice[str]):
    """The one thing that can be done with the settings."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            raise click.UsageError(
                f"{str(value)[:40]!r} cannot be done with the settings: did you mean config show?",
                ctx,
            )
        return super().convert(value, param, ctx)


@verb("config", examples=EXAMPLES)
@click.argument("what", metavar="show", type=_What(["show"]), required=False)
@config_option
@json_option
@click.pass_context
def config(ctx: click.Context, /, what: str | None, *, json: bool, **_settings: object) -> None:
    """Show each setting with its value in force and where it came from.

    That is a flag, an environment variable, a line of the file, or the default. What is written is
    a configuration file again. Takes every flag of `facepurge run` that is a setting. Credentials
    are no settings, so there are none in it.
    """
    if what is None:
        raise click.UsageError("it is not said what to do with the settings: config show", ctx)
    with known(NOTHING_SENT):
        given = configuration(ctx)
        stderr.begin(given.settings.log_format)
        stdout.write(as_json(given) if json else as_toml(given))
    stderr.write(
        f"{given.changes}; {NOTHING_SENT}; to see what a run would do with them type: facepurge plan"
        " SOURCE..."
    )


# Whatever is a setting to `run` is one here.
config.params[2:2] = [param for param in run.params if param.name in SETTING_OF]


def as_toml(given: Configuration) -> str:
    """The configuration as a file that gives the same settings, with the origins as comments."""
    rows = [(f"{key} = {_toml(value)}", given.origins[key]) for key, value in _values(given)]
    width = min(max(len(row) for row, _ in rows), 60)
    return "\n".join(f"{row:<{width}}  # {_place(origin)}" for row, origin in rows)


def as_json(given: Configuration) -> str:
    """The same for programs: ``value``, ``origin`` and ``place`` of each setting."""
    import msgspec  # noqa: PLC0415 (start-up)

    document = {
        "settings": {
            key: {
                "value": value,
                "origin": _origin(given.origins[key]),
                "place": _place(given.origins[key]),
            }
            for key, value in _values(given)
        }
    }
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _values(given: Configuration) -> list[tuple[str, Any]]:
    import msgspec  # noqa: PLC0415 (start-up)

    return list(msgspec.to_builtins(given.settings).items())


def _origin(origin: str) -> Origin:
    from worker.configuration import PREFIX  # noqa: PLC0415 (start-up)

    if origin == "default":
        return "default"
    if origin.startswith("--"):
        return "flag"
    return "environment" if origin.startswith(PREFIX) and origin in os.environ else "file"


def _place(origin: str) -> str:
    """Without the key, which stands in the same line."""
    return origin.rpartition(": ")[0] or origin


def _toml(value: Any) -> str:
    import msgspec  # noqa: PLC0415 (start-up)

    if isinstance(value, dict):
        # An inline table; names and texts only, and JSON's quoted texts are TOML's.
        return f"{{{', '.join(f'{key} = {_toml(text)}' for key, text in value.items())}}}"
    return msgspec.json.encode(value).decode()
