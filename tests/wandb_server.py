"""A small stand-in for W&B's server: it takes runs, their history, their summary and their files, and can stop answering.

It knows the requests that the library makes on the way of a run, and nothing of W&B's own server.
"""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Stored:
    """What the server has of a run; `creations` counts how often the run was new to it."""

    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    creations: int = 0


class Server(ThreadingHTTPServer):
    """The runs by their ids, and the requests that it did not know."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, Stored] = {}
        self.unknown: list[str] = []
        self.answering = threading.Event()
        self.answering.set()
        self.over = threading.Event()
        self.streams = 0
        self.silent_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value: Any) -> None:
        if not self.server.answering.is_set():
            self.server.over.wait(120)
            return
        body = json.dumps(value).encode()
        with suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_PUT(self) -> None:
        run, _, name = self.path.removeprefix("/upload/").partition("/")
        self.server.runs[run].files[name] = self._body()
        self._answer({})

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/graphql":
            asked = json.loads(body)
            named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._answer({"data": self._graphql(named[1] if named else "", asked.get("variables") or {})})
        elif found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self._stream(self.server.runs[found[1]], json.loads(body))
            self._answer({"exitcode": None, "limits": {}})
        else:
            self._answer({})

    def _stream(self, run: Stored, given: dict[str, Any]) -> None:
        self.server.streams += 1
        if self.server.silent_after is not None and self.server.streams > self.server.silent_after:
            self.server.answering.clear()
            return
        for name, part in (given.get("files") or {}).items():
            rows = [json.loads(line) for line in part["content"]] if name.endswith((".jsonl", ".json")) else []
            if name == "wandb-history.jsonl":
                run.history[part["offset"] :] = rows
            elif name == "wandb-summary.json" and rows:
                run.summary = rows[-1]
        if given.get("complete"):
            run.exit_codes.append(given["exitcode"])

    def _graphql(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        runs = self.server.runs
        team = {"id": "team", "name": "team"}
        project = {"id": "project", "name": given.get("project"), "entity": team}
        if name == "RunResumeStatus":
            return {"model": {**project, "bucket": self._resumed(given["name"])}}
        if name == "UpsertBucket":
            run = runs.setdefault(given["name"], Stored())
            new = not run.about
            run.creations += new
            run.about |= {key: value for key, value in given.items() if value is not None}
            run.config |= {key: value["value"] for key, value in json.loads(given["config"] or "{}").items()}
            bucket = {"id": given["name"], "name": given["name"], "displayName": run.about.get("displayName")}
            bucket |= {"description": "", "config": given["config"], "sweepName": None, "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": len(run.history)}, "inserted": new}}
        if name == "CreateRunFiles":
            urls = [
                {"name": file, "uploadUrl": f"{self.server.url}/upload/{given['run']}/{file}"} for file in given["files"]
            ]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": urls}}
        if name == "Viewer":
            about = {"id": "me", "entity": "team", "flags": "{}", "teams": {"edges": []}, "username": "me"}
            return {"viewer": about}
        if name == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if name == "ArtifactType":
            return {"project": {"artifact": None}}
        if name.startswith("OrganizationCoreWeave"):
            return {"entity": {"organization": None}}
        if name == "CreateArtifact":
            there = {"id": "artifact", "state": "COMMITTED", "artifactSequence": {"id": "sequence", "latestArtifact": None}}
            return {"createArtifact": {"artifact": there}}
        self.server.unknown.append(name)
        return {}

    def _resumed(self, name: str) -> dict[str, Any] | None:
        run = self.server.runs.get(name)
        if run is None:
            return None
        counts = {"logLineCount": 0, "historyLineCount": len(run.history), "eventsLineCount": 0}
        tails = {"historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]), "eventsTail": "[]"}
        config = json.dumps({key: {"value": value} for key, value in run.config.items()})
        about = {"id": name, "name": name, "displayName": run.about.get("displayName"), "config": config}
        more = {"summaryMetrics": json.dumps(run.summary), "tags": [], "notes": None, "wandbConfig": '{"t": 1}'}
        return {**about, **counts, **tails, **more}


@contextmanager
def serving() -> Iterator[Server]:
    """A server that answers while the body runs."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def helpers_alive() -> list[int]:
    """The helper processes of this process that live."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in text_of(task / "children").split()]
    return [int(pid) for pid in children if "wandb-core" in text_of(Path(f"/proc/{pid}/cmdline"))]


def text_of(file: Path) -> str:
    """The text of a file of the kernel; empty if its thread or process has ended meanwhile."""
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""
