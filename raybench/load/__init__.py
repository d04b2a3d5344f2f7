"""Load shapes: what is sent and when. Pure."""
