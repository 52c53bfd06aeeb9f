"""A hub on this machine: as much of the real one's HTTP as downloading a file needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories are folders; each has one commit, which is ``main``.

    Attributes:
        folders: Repository -> its files.
        gated: Repositories that ask for a permission.
        broken: While set, the weights break off in the middle, and the next connections at once.
        down: Every connection is closed at once.
        foreign: A status; something else than a hub answers everything with it and a page.
        asked: Method and path of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.broken = False
        self.down = False
        self.foreign = 0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def downloaded(self) -> list[str]:
        """Names of the files whose content was asked for, in order."""
        return [line.rpartition("/")[2] for line in self.asked if line.startswith("GET /") and
                "/resolve/" in line]  # fmt: skip

    @contextmanager
    def running(self) -> Iterator[Hub]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        if hub.down:
            return self.close_at_once()
        if hub.foreign:
            return self.send(b"<!DOCTYPE html><p>Log in to the network", status=hub.foreign)
        if path.startswith("/api/models/"):
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            if self.refused(repository, revision or "main"):
                return None
            return self.send(json.dumps({"id": repository, "sha": COMMIT}).encode())
        repository, _, rest = path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        if self.refused(repository, revision):
            return None
        if repository in hub.gated:
            return self.fail(403, "GatedRepo")
        file = hub.folders[repository] / name
        if not file.is_file():
            return self.fail(404, "EntryNotFound")
        content = file.read_bytes()
        if hub.broken and self.command == "GET" and file.suffix == ".safetensors":
            hub.down = True
            return self.send(content, len(content) // 2)
        return self.send(content)

    def refused(self, repository: str, revision: str) -> bool:
        if repository not in self.server.folders:
            self.fail(401, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.fail(404, "RevisionNotFound")
        else:
            return False
        return True

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content: bytes, count: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:count])

    def close_at_once(self) -> None:
        self.close_connection = True
