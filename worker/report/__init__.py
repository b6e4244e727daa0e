"""The report: written from the ledger only, one line per face of each job."""
