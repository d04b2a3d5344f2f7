"""The load client: a child process of the node that reads a job file and appends results to a file."""
