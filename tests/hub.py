"""A stand-in of the Hugging Face hub: as much of its HTTP interface as its client uses to read and write."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_someone"  # may write to repositories of someone
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Repository:
    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False

    @property
    def commit(self) -> str:
        """Another one for other files."""
        return hashlib.sha1(
            b"".join(name.encode() + content for name, content in sorted(self.files.items()))
        ).hexdigest()

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
            for name, content in self.files.items()
        ]


class Hub:
    """A server with repositories; `someone/vit` has these files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.repositories = {"someone/vit": Repository(files)}
        self.asked: list[str] = []
        self.large: dict[str, bytes] = {}  # by SHA-256: what was uploaded as a large file
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                hub.asked.append(f"{self.command} {self.path}")
                known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, headers, content = hub.reply(self.command, self.path.partition("?")[0], body, known)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def files(self) -> dict[str, bytes]:
        return self.repositories["someone/vit"].files

    def reply(self, method: str, path: str, body: bytes, known: bool) -> Answer:
        if method == "POST" and not known:  # the address of a large file is a secret of its own
            return 401, {"X-Error-Message": "Invalid username or password."}, b"{}"
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if path.startswith("/large/"):
            self.large[path.removeprefix("/large/")] = body
            return _json({})
        asked = re.fullmatch(r"(?:/api/models)?/(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?(?:/(?P<what>.*))?", path)
        repository = asked and self.repositories.get(asked["name"])
        if not asked or not repository:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        return self.about(repository, path.startswith("/api"), asked["what"] or "", body)

    def create(self, wanted: dict[str, Any]) -> Answer:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != "someone":
            return 403, {"X-Error-Message": "You don't have the rights to create a model under this namespace"}, b"{}"
        there = name in self.repositories
        self.repositories.setdefault(name, Repository(private=wanted.get("visibility") == "private"))
        return _json({"url": f"{self.address}/{name}"}, 409 if there else 200)

    def about(self, repository: Repository, api: bool, what: str, body: bytes) -> Answer:
        part, _, rest = what.partition("/")
        if api and part in ("", "revision"):
            if rest not in ("", "main", repository.commit):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            return _json({"id": "x/y", "sha": repository.commit, "private": repository.private, "siblings": []})
        if part == "tree":
            return _json(repository.tree())
        if part == "preupload":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return _json({"files": modes})
        if what == "info/lfs/objects/batch":
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return _json({"transfer": "basic", "objects": objects})
        if part == "commit":
            return self.commit(repository, [json.loads(line) for line in body.splitlines()])
        name = rest.partition("/")[2]
        if part == "resolve" and name in repository.files:
            content = repository.files[name]
            tag = hashlib.sha256(content).hexdigest()
            return 200, {"X-Repo-Commit": repository.commit, "ETag": f'"{tag}"'}, content
        return 404, {"X-Error-Code": "EntryNotFound"}, b""

    def commit(self, repository: Repository, lines: list[dict[str, Any]]) -> Answer:
        for line in lines:
            about = line["value"]
            if line["key"] == "file":
                repository.files[about["path"]] = base64.b64decode(about["content"])
            elif line["key"] == "lfsFile":
                repository.files[about["path"]] = self.large[about["oid"]]
        (name,) = [name for name, known in self.repositories.items() if known is repository]
        url = f"{self.address}/{name}/commit/{repository.commit}"
        return _json({"commitUrl": url, "commitOid": repository.commit})


def _json(content: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()
