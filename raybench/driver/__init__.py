"""The driver: a loop around the dispatcher. Completions become events, actions become calls; no policy in it."""
