"""Sinks: a run's report, shown elsewhere. A process of its own, after the ledger; its failure changes no result."""
