"""Fetch a model of the hub into its cache, and print where it lies.

Runs inside the engine's interpreter (huggingface_hub), never in raybench's own process:

    python fetch_snapshot.py OWNER/NAME [REVISION]

The last line of the output is `snapshot FOLDER`; the folder's name is the resolved commit.
"""

# ruff: noqa: T201 - its output is read by the process that started it
import sys

from huggingface_hub import snapshot_download

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py"]


def main():
    revision = sys.argv[2] if len(sys.argv) > 2 else None
    folder = snapshot_download(sys.argv[1], revision=revision, allow_patterns=FILES)
    print("snapshot", folder, flush=True)


if __name__ == "__main__":
    main()
