"""The ``facepurge`` command, and ``python -m worker``: signals are heeded before anything else."""

from __future__ import annotations

from typing import NoReturn

from worker import interruption


def main() -> NoReturn:
    """Run the command and end the process with its code."""
    interruption.begin()
    from worker.cli import main as command  # noqa: PLC0415 (a signal may come while it is imported)

    command()


if __name__ == "__main__":
    main()
