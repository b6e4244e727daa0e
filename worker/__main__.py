"""``python -m worker`` is the same program as the ``facepurge`` command."""

from worker.cli import main

main()
