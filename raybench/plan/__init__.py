"""The plan: what will be done, and who does it next. Pure."""
