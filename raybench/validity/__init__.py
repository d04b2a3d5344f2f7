"""Named checks over a ledger's view: what was seen, the rule, and what to do. Pure; only red makes a result INVALID."""
