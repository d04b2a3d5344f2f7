"""The ledger: the one append-only file that is the truth of a run."""
