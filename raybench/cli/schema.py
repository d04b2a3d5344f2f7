"""`raybench schema`."""

import json

import typer


def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from raybench.config.read import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
