"""``facepurge sandbox``: the emulated service on a loopback port."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import Any

import click

from worker.cli import stdout
from worker.cli.ending import known
from worker.cli.parameters import Count, Text
from worker.cli.verb import GroupedOption, verb
from worker.errors import FacepurgeError
from worker.interruption import raise_from_here

_library = partial(click.option, cls=GroupedOption, heading="Library")
_quota = partial(click.option, cls=GroupedOption, heading="Quota and latency")
_trouble = partial(click.option, cls=GroupedOption, heading="Undocumented facts and faults")
_server = partial(click.option, cls=GroupedOption, heading="Server")

_EXAMPLES = """\
# 1200 persons with 5 faces each; most answers take about 50 ms
facepurge sandbox --port 8080 --generate 1200:5 --latency lognormal:0.05
# the third DeleteFaces is carried out, and then the connection is reset
facepurge sandbox --state faces.json --fault 'reset nth=3'
# one call in twenty is answered by a proxy's page and not carried out
facepurge sandbox --generate 100 --fault 'html status=503 applies=never probability=0.05'
# half of the documented quota, refused with HTTP 429 and Retry-After
facepurge sandbox --generate 100 --quota-rate 10 --throttle http-429 --retry-after auto
# a person who does not exist has an empty list of faces
facepurge sandbox --generate 100 --fact unknown_person=empty-list"""


@verb("sandbox", examples=_EXAMPLES)
@_library(
    "--state",
    type=Text("FILE"),
    help='What it begins with: {"persons": {"personId": ["faceId", ...]}}.',
)
@_library(
    "--generate",
    type=Text("PERSONS[:FACES]"),
    help="Begin with made-up persons, with 3 faces each or FACES.",
)
@_library(
    "--log",
    type=Text("FILE"),
    help="Request log, one JSON object a line; also brings back the library after a stop.",
)
@_library(
    "--account",
    type=Text("ID"),
    default="1000000000000001",
    help="Account that STS, on the same port, says the keys are of; default 1000000000000001.",
)
@_quota(
    "--quota",
    type=click.Choice(["off", "sliding", "calendar", "bucket"]),
    default="sliding",
    help="Kind of window; default sliding: at most so many calls in any second.",
)
@_quota(
    "--quota-rate",
    type=Count(1, 1_000_000, "calls"),
    metavar="N",
    default=20,
    help="Calls a second let through for each operation; default 20, as documented.",
)
@_quota(
    "--quota-burst",
    type=Count(0, 1_000_000, "calls"),
    metavar="N",
    default=0,
    help="Calls that a bucket saves up; default one second's.",
)
@_quota("--quota-shared", is_flag=True, help="One window for all operations together.")
@_quota("--quota-count-throttled", is_flag=True, help="A refused call uses up the window too.")
@_quota(
    "--throttle",
    type=click.Choice(
        ["gateway-400", "gateway-429", "gateway-503", "service-200", "service-588", "http-429"]
    ),
    default="gateway-400",
    help="How a call over the quota is refused; default gateway-400, Throttling.User.",
)
@_quota(
    "--retry-after",
    metavar="TEXT",
    default="",
    help="Header of such a refusal: auto, date, or any text.",
)
@_quota(
    "--acs-retry-after",
    metavar="TEXT",
    default="",
    help="Header x-acs-retry-after of such a refusal: auto, or any text.",
)
@_quota(
    "--latency",
    type=Text("SPEC"),
    default="none",
    help="none (default), fixed:SECONDS or lognormal:MEDIAN_SECONDS[:SIGMA].",
)
@_trouble(
    "--fact",
    type=Text("KEY=VALUE"),
    multiple=True,
    help="Settle what the service does not document; repeatable, see --list facts.",
)
@_trouble(
    "--fault",
    type=Text("'NAME KEY=VALUE ...'"),
    multiple=True,
    help="Let something go wrong; repeatable, see --list faults.",
)
@_trouble(
    "--faults",
    type=Text("FILE"),
    multiple=True,
    help="The same as a JSON array of objects.",
)
@_trouble(
    "--clock-offset",
    type=float,
    metavar="SECONDS",
    default=0.0,
    help="How far its clock is ahead of this machine's.",
)
@_trouble(
    "--seed", type=int, default=0, help="Of made-up faces, latencies and random faults; default 0."
)
@_trouble(
    "--list",
    type=click.Choice(["facts", "faults"]),
    help="Explain what can be set, and exit.",
)
@_server(
    "--port",
    type=Count(0, 65535, "ports"),
    metavar="N",
    default=0,
    help="Port on 127.0.0.1; default 0, any free one.",
)
@_server("--exit-on-stdin-eof", is_flag=True, help="Stop when standard input ends.")
def sandbox(**flags: Any) -> None:
    """Serve an emulator of the face library on 127.0.0.1 until SIGTERM or Ctrl-C.

    Its URL is the first line on standard output. It accepts the key pair in its environment's
    ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET; without them the pair
    LTAI-facepurge-sandbox and not-a-secret-facepurge-sandbox.

    The same port answers for STS (GetCallerIdentity): FACEPURGE_STS_ENDPOINT=URL lets a run ask it
    which account its keys are of.

    Signatures are verified, the quota is enforced, and what is deleted is gone. Started again
    with the same --state (or --generate and --seed) and the same --log, it holds what it held when
    it ended, however it ended.
    """
    # Before anything is imported: it stops cleanly also while it is only about to serve.
    with suppress(KeyboardInterrupt):
        raise_from_here()
        _serve(flags)


def _serve(flags: dict[str, Any]) -> None:
    if flags["list"]:
        from worker.sandbox import catalogue  # noqa: PLC0415 (start-up)

        texts = {"facts": catalogue.facts_text, "faults": catalogue.faults_text}
        stdout.write(texts[flags["list"]]())
        return

    import asyncio  # noqa: PLC0415 (start-up)

    from worker.sandbox.flags import options_from_flags  # noqa: PLC0415 (start-up)
    from worker.sandbox.serving import serve  # noqa: PLC0415 (start-up)

    options = options_from_flags(flags, os.environ)
    with known("no sandbox is serving now"):
        asyncio.run(
            serve(options, announce=_announce, exit_on_stdin_eof=flags["exit_on_stdin_eof"])
        )


def _announce(url: str) -> None:
    stdout.write(url)
    if stdout.is_lost():
        raise FacepurgeError(
            "stdout: the URL of the sandbox cannot be written there, so that nobody would find it",
            "let its standard output be a terminal, a pipe that is read, or a file with room",
        )
