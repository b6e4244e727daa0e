"""The checker: evaluates the invariants of a run over everything that is known about it."""
