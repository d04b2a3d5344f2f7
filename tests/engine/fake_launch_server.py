"""Stand-in for `sglang.launch_server`, laid into a folder named sglang: flags, routes and deaths of the real one."""

import argparse
import http.server
import json
import os
import sys
import time
from pathlib import Path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch_server.py")
    for name in ("model-path", "served-model-name", "host", "nccl-port", "api-key", "json-model-override-args"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--behave", default="ready")
    parser.add_argument("--enable-metrics", action="store_true")
    parser.add_argument("--cuda-graph-bs", nargs="+", type=int)
    return parser.parse_args()


def end(behave: str, tries: Path) -> None:
    """Die as told; `port-once` dies at the first of several starts only."""
    if behave == "port-once":
        if tries.exists():
            return
        tries.write_text("one")
    last_words = {
        "port": "OSError: [Errno 98] error while attempting to bind on address: address already in use",
        "port-once": "OSError: [Errno 98] error while attempting to bind on address: address already in use",
        "memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "import": "ModuleNotFoundError: No module named 'sgl_kernel'",
        "crash": "RuntimeError: index -1 is out of bounds for dimension 1 with size 8",
    }
    if behave in last_words:
        print(last_words[behave], flush=True)
        sys.exit(1)


def orphan() -> None:
    """A grandchild in a session of its own, which only the guardian can reach."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)


def main() -> None:
    args = parse()
    print(f"[2026-11-23 15:20:59] server_args={vars(args)}", flush=True)
    print(f"environment: {json.dumps(dict(os.environ))}", flush=True)
    orphan()
    end(args.behave, Path(args.model_path) / "tries")
    if args.behave == "hang":
        time.sleep(600)
    began = time.monotonic()

    class Routes(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if args.api_key and self.headers["Authorization"] != f"Bearer {args.api_key}" and self.path != "/ready":
                self.answer(401, {"error": "unauthorized"})
            elif self.path == "/ready" and args.behave != "old":
                self.answer(200 if time.monotonic() - began > 0.5 else 503, None)
            elif self.path == ("/get_server_info" if args.behave == "old" else "/server_info"):
                info = {"version": "0.5.21", "tp_size": 1, "max_total_num_tokens": 1000, "api_key": args.api_key}
                self.answer(200, info | {"model_path": args.model_path, "served_model_name": args.served_model_name})
            elif self.path == "/v1/models" and args.behave != "broken":
                self.answer(200, {"data": [{"id": args.served_model_name, "max_model_len": 2048}]})
            else:
                self.answer(500 if args.behave == "broken" else 404, {"error": "no such route"})

        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            one_token = said.get("sampling_params", {}).get("max_new_tokens") == 1
            self.answer(200 if self.path == "/generate" and one_token else 404, {})

        def log_message(self, *words: object) -> None:
            pass

    http.server.ThreadingHTTPServer((args.host, args.port), Routes).serve_forever()


if __name__ == "__main__":
    main()
