"""The report: a pure function of a ledger's view, and the pages that are made from it."""
