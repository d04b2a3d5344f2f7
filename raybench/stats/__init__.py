"""Figures and statistics over what was measured. Pure."""
