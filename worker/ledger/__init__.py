"""The ledger: plan, attempts, evidence and outcomes; the one set of books of a run."""
