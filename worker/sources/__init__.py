"""Reading jobs: every byte checked, nothing repaired, nothing guessed."""

from __future__ import annotations

from worker.sources.opening import open_sources, paths_of

__all__ = ["open_sources", "paths_of"]
