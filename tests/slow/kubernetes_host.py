"""A pretended Kubernetes: it answers the calls of Snakemake's plugin, and runs no container.

Each Job is kept as it was sent, and its command is run by a plain process in an empty folder, which
sees the shared volume where this machine has it. What a real cluster would say to the Job, whether
it would find the image, a node, the volume, this cannot tell.
"""

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Cluster(ThreadingHTTPServer):
    """The API server, and all nodes."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Calls)
        self.folder, self.sent, self.running = folder, [], {}
        # The image: its Python, and a pip that finds everything installed.
        image = folder / "bin"
        image.mkdir()
        for name, text in {"python": f'exec {sys.executable} "$@"', "pip": "exit 0"}.items():
            (image / name).write_text(f"#!/bin/sh\n{text}\n")
            (image / name).chmod(0o755)

    def run(self, job: dict) -> None:
        """Run a Job's only container."""
        self.sent.append(job)
        name, (container,) = job["metadata"]["name"], job["spec"]["template"]["spec"]["containers"]
        work = self.folder / name
        work.mkdir()
        env = {"PATH": f"{self.folder}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(work)}
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [*container["command"], *container["args"]]
            self.running[name] = subprocess.Popen(
                command, cwd=work, env=env, stdout=log, stderr=subprocess.STDOUT
            )


class Calls(BaseHTTPRequestHandler):
    """The calls that the plugin makes."""

    server: Cluster

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/jobs"):
            self.server.run(body)
        self._answer(body, 201)

    def do_GET(self) -> None:
        if found := re.search(r"/pods/([^/]+)-pod/log", self.path):
            self._answer((self.server.folder / f"{found[1]}.log").read_text())
        elif found := re.search(r"/jobs/([^/]+)/status", self.path):
            code = self.server.running[found[1]].poll()
            status = {} if code is None else {"failed": 1} if code else {"succeeded": 1}
            self._answer({"metadata": {"name": found[1]}, "status": status})
        elif found := re.search(r"/pods\?.*job-name%3D([\w-]+)", self.path):
            self._answer({"metadata": {}, "items": [self._pod(found[1])]})
        else:
            self._answer({}, 404)

    def do_DELETE(self) -> None:
        self._body()
        self._answer({"metadata": {}, "status": "Success"})

    def _pod(self, job: str) -> dict:
        code = self.server.running[job].poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        container = {"name": "snakemake", "image": "-", "imageID": "-", "ready": True}
        statuses = [container | {"restartCount": 0, "state": state}]
        return {"metadata": {"name": f"{job}-pod"}, "status": {"containerStatuses": statuses}}

    def _body(self) -> dict:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def _answer(self, body: dict | str, code: int = 200) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def kubernetes(folder: Path) -> Iterator[tuple[Cluster, Path]]:
    """Answer as a Kubernetes would; yield it, and the file that `KUBECONFIG` should name."""
    cluster = Cluster(folder)
    address = {"server": f"http://127.0.0.1:{cluster.server_port}"}
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": address}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    }
    (folder / "config").write_text(json.dumps(config))
    threading.Thread(target=cluster.serve_forever, daemon=True).start()
    try:
        yield cluster, folder / "config"
    finally:
        for process in cluster.running.values():
            process.kill()
            process.wait()
        cluster.shutdown()
        cluster.server_close()
