"""Looking at a run: once, or for as long as somebody is at work on it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from worker.cli import stderr, stdout
from worker.cli.ending import known
from worker.cli.portrait import brief, document, last_line, lines
from worker.cli.refusal import document_of_refusal
from worker.cli.standing import glance

INTERVAL_SECONDS: Final = 2.0


def tell(run_dir: Path, *, json: bool) -> int:
    """Say once how the run is; returns 0. Raises what ``standing.look`` raises."""
    with document_of_refusal(asked=json):
        standing = glance(run_dir)
    if json:
        stdout.write(msgspec.json.format(msgspec.json.encode(document(standing))).decode())
    else:
        stdout.write("\n".join(lines(standing)))
    stderr.write(last_line(standing))
    return 0


def watch(run_dir: Path, *, json: bool) -> int:
    """Say how the run is until nobody is at work on it any more; returns 0.

    Redrawn on a terminal; elsewhere a line, or one JSON object, whenever something has changed.
    """
    last_words = f"the run goes on; to end it type: facepurge stop {shlex.quote(str(run_dir))}"
    redraws = not json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    drawn = 0
    before = ""
    with known(last_words), document_of_refusal(asked=json):
        while True:
            standing = glance(run_dir)
            if json:
                text = msgspec.json.encode(document(standing)).decode()
            elif redraws:
                shown = _fitting(lines(standing))
                stdout.write(f"\x1b[{drawn}F\x1b[J" * bool(drawn) + "\n".join(shown))
                text, drawn = "", len(shown)
            else:
                text = brief(standing)
            if text != before:
                stdout.write(text if json else f"{datetime.now().astimezone():%H:%M:%S} {text}")
                before = text
            if not standing.holder or stdout.is_lost():
                break
            time.sleep(INTERVAL_SECONDS)
    stderr.write(last_line(standing))
    return 0


def _fitting(shown: list[str]) -> list[str]:
    """What the terminal has room for, so that a line is a line."""
    size = shutil.get_terminal_size()
    return [line[: size.columns - 1] for line in shown[: max(1, size.lines - 2)]]
