"""The node: one machine, its engine, its client process and its telemetry."""
