"""The ``facepurge`` command: which verbs there are, and how every one of them ends.

A verb's module is imported when the verb is invoked, so that ``facepurge --help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from worker import __version__, interruption
from worker.cli import ending, stdout
from worker.cli.verb import help_option, unknown_flag
from worker.spelling import nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VERBS: Final = {
    "run": ("worker.cli.run:run", "Read, plan, confirm, delete, report: the main job."),
    "plan": ("worker.cli.plan:plan", "Everything up to the first call; sends nothing."),
    "resume": ("worker.cli.resume:resume", "Go on with a run that is not finished."),
    "retry": ("worker.cli.retry:retry", "A new round for what a finished run could not delete."),
    "verify": ("worker.cli.verify:verify", "Look up again what a run says is gone."),
    "status": ("worker.cli.status:status", "How a run is: state, counts, rate, and why it waits."),
    "pause": ("worker.cli.pause:pause", "Let a run at work begin no further call for now."),
    "unpause": ("worker.cli.unpause:unpause", "Let a paused run go on."),
    "rate": ("worker.cli.rate:rate", "Make a run at work slower or faster."),
    "stop": ("worker.cli.stop:stop", "End a run at work in good order; resumable."),
    "report": ("worker.cli.report:report", "Write a run's report again from its ledger."),
    "doctor": ("worker.cli.doctor:doctor", "Check everything that a run needs; deletes nothing."),
    "config": ("worker.cli.config:config", "Show each setting in force and where it came from."),
    "sandbox": ("worker.cli.sandbox:sandbox", "Serve the emulated API on a loopback port."),
    "completion": ("worker.cli.completion:completion", "Let bash, zsh or fish complete commands."),
}
"""Verb to where it lives and its line of the help."""


class _Verbs(click.Group):
    """Commands that are imported when they are invoked; their help is in the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click calls it so)
        return list(VERBS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 (click calls it so)
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as unknown:
            said = unknown_flag(unknown, self, ctx)
            if verbs := [verb for verb in VERBS if self._takes(ctx, verb, unknown.option_name)]:
                # Behind the verb that was typed, if it is one of them.
                verb = next((arg for arg in args if arg in verbs), verbs[0])
                said = (
                    f"{unknown.option_name} belongs behind its verb:"
                    f" facepurge {verb} ... {unknown.option_name}"
                )
            raise click.NoSuchOption(unknown.option_name, said, ctx=ctx) from None

    def _takes(self, ctx: click.Context, verb: str, flag: str) -> bool:
        command = self.get_command(ctx, verb)
        return command is not None and any(flag in param.opts for param in command.params)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not ctx.resilient_parsing:
            meant = nearest(args[0], VERBS)
            hint = f"did you mean {meant}?" if meant else f"the verbs are {', '.join(VERBS)}"
            raise click.UsageError(f"{args[0]!r} is not a verb: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 (start-up)

        verbs = [
            CompletionItem(name, help=line)
            for name, (_, line) in VERBS.items()
            if name.startswith(incomplete)
        ]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 (click calls it so)
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


def _show_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 (click's callback)
    if asked and not ctx.resilient_parsing:
        stdout.write(f"facepurge {__version__}")
        ctx.exit()


@click.group(
    cls=_Verbs,
    add_help_option=False,
    context_settings={"max_content_width": 100},
    invoke_without_command=True,
    epilog="\b\nTry it without a key or an account:\n"
    "  facepurge run faces.csv --sandbox --yes\n"
    "What a verb takes: facepurge run --help",
)
@help_option
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def facepurge(ctx: click.Context) -> None:
    """Delete faces from Alibaba Cloud Content Moderation in bulk, and prove what was done."""
    if ctx.invoked_subcommand is None:
        raise click.UsageError("a verb is missing: " + ", ".join(VERBS), ctx)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code; never shows a traceback."""
    args = list(sys.argv[1:] if argv is None else argv)
    if "_FACEPURGE_COMPLETE" in os.environ:
        facepurge.main(args, prog_name="facepurge")
    stdout.begin()
    # Also the directories made on the way to a private one, whatever the shell's umask was.
    os.umask(0o077)
    try:
        code = _invoke(args)
        # No call before this, in which a signal could come between.
        interruption.state.over = True
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException as error:  # noqa: BLE001 (the one place where every error becomes an exit code)
        interruption.state.over = True
        code = ending.tell(error, verbose=any(arg in ("-v", "--verbose") for arg in args))
    sys.exit(stdout.exit_code(code))


def _invoke(args: list[str]) -> int:
    with facepurge.make_context("facepurge", args) as ctx:
        result: Any = facepurge.invoke(ctx)
    return result if isinstance(result, int) else 0
