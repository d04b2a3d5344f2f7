"""Look a model of the hub up, or fetch it into the hub's cache.

Runs inside the engine's interpreter (huggingface_hub), never in raybench's own process:

    python fetch_snapshot.py plan OWNER/NAME [REVISION]
    python fetch_snapshot.py fetch OWNER/NAME COMMIT

The last line of the output is `plan JSON` with the resolved commit, the size of every file and the name of its blob
in the cache, or `snapshot FOLDER`.
"""

# ruff: noqa: T201 - its output is read by the process that started it
import json
import sys

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import filter_repo_objects

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py"]


def plan(name, revision):
    found = HfApi().model_info(name, revision=revision, files_metadata=True)
    sizes = {entry.rfilename: entry.size for entry in found.siblings}
    files = {name: sizes[name] or 0 for name in filter_repo_objects(sizes, allow_patterns=FILES)}
    blobs = {entry.rfilename: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in found.siblings}
    print("plan", json.dumps({"commit": found.sha, "files": files, "blobs": blobs}), flush=True)


def fetch(name, commit):
    folder = snapshot_download(name, revision=commit, allow_patterns=FILES)
    print("snapshot", folder, flush=True)


def main():
    what, name, *revision = sys.argv[1:]
    (plan if what == "plan" else fetch)(name, revision[0] if revision else None)


if __name__ == "__main__":
    main()
