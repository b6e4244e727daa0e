"""``facepurge completion``: what a shell needs to complete verbs, flags, runs and files."""

from __future__ import annotations

import click

from worker.cli import stdout
from worker.cli.verb import verb

VARIABLE = "_FACEPURGE_COMPLETE"
"""Set by the shell's script when it asks this program what may come next."""

EXAMPLES = """\
# bash 4.4 or newer: for this shell, then for every one
eval "$(facepurge completion bash)"
facepurge completion bash > ~/.local/share/bash-completion/completions/facepurge
# zsh, after compinit in ~/.zshrc
eval "$(facepurge completion zsh)"
facepurge completion fish > ~/.config/fish/completions/facepurge.fish"""


@verb("completion", examples=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Write the script that lets bash, zsh or fish complete this command.

    Verbs, flags and their choices, the directories of runs and names of files are completed. The
    script asks the program itself at each press of Tab, so it does not grow old.
    """
    from click.shell_completion import ShellComplete, get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    assert kind is not None
    group = ctx.find_root().command
    # Not bash's own `source`, which runs a bash first to look at its version.
    stdout.write(ShellComplete.source(kind(group, {}, "facepurge", VARIABLE)).rstrip())
