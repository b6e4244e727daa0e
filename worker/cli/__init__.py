"""The ``facepurge`` command."""
