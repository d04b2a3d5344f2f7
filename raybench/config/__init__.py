"""Configuration: what the user writes."""
