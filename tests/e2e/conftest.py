from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.program import Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Starts ``facepurge`` in the test's directory."""
    return Program(tmp_path)
