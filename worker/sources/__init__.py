"""Reading jobs: every byte checked, nothing repaired, nothing guessed."""
