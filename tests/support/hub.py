"""A stand-in for the hub: its HTTP interface as huggingface_hub uses it, for repositories in memory."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


class Hub:
    """Repositories by id; every commit is kept.

    Attributes:
        url: what HF_ENDPOINT is set to.
        private: ids that are only there for TOKEN.
        asked: the paths of all requests.
    """

    def __init__(self):
        self.commits = {}  # id -> [(sha, {file name: bytes})]
        self.tags = {}  # (id, name) -> sha
        self.private = set()
        self.asked = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def commit(self, repo, files):
        """Add files over the last commit's; returns the commit's id."""
        before = self.commits.setdefault(repo, [])
        content = {**(before[-1][1] if before else {}), **files}
        sha = hashlib.sha1(f"{repo} {len(before)}".encode()).hexdigest()
        before.append((sha, content))
        return sha

    def find(self, repo, revision):
        """(the commit's id, its files); None where there is no such revision."""
        sha = self.tags.get((repo, revision), revision)
        commits = self.commits[repo]
        if sha == "main":
            return commits[-1] if commits else ("0" * 40, {})
        return next((commit for commit in commits if commit[0] == sha), None)

    def files(self, repo):
        return self.find(repo, "main")[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection for each request: a closed server answers no more
    hub: Hub

    def log_message(self, *arguments):
        pass

    def _send(self, status, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status, code):
        self._send(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def _allowed(self, repo):
        right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo not in self.hub.commits or (repo in self.hub.private and not right):
            self._refuse(401 if not right else 404, "RepoNotFound")
            return False
        return True

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.asked.append(f"{self.command} {urlsplit(self.path).path}")
        if parts[:2] == ["api", "models"]:
            repo, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
        elif len(parts) > 4:
            repo, revision = "/".join(parts[:2]), parts[3]
        else:
            self._send(404)
            return
        if not self._allowed(repo):
            return
        if (found := self.hub.find(repo, revision)) is None:
            self._refuse(404, "RevisionNotFound")
            return
        sha, files = found
        if parts[:2] == ["api", "models"]:
            rows = [{"type": "file", "path": name, "size": len(data), "oid": sha} for name, data in files.items()]
            about = {"id": repo, "sha": sha, "siblings": [{"rfilename": name} for name in files]}
            self._send(200, rows if parts[4:5] == ["tree"] else about, Content_Type="application/json")
            return
        name = "/".join(parts[4:])
        if name not in files:
            self._send(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            return
        digest = hashlib.sha256(files[name]).hexdigest()
        self._send(200, files[name], ETag=f'"{digest}"', X_Repo_Commit=sha)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path).path.strip("/").split("/")
        self.hub.asked.append(f"POST /{'/'.join(parts)}")
        if parts == ["api", "validate-yaml"]:
            self._send(200, {"errors": [], "warnings": []}, Content_Type="application/json")
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid username or password."}, Content_Type="application/json")
            return
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo in self.hub.commits:
                self._send(409, {"error": "exists", "url": f"{self.hub.url}/{repo}"}, Content_Type="application/json")
                return
            self.hub.commits[repo] = []
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(repo)
            self._send(200, {"url": f"{self.hub.url}/{repo}", "id": repo}, Content_Type="application/json")
            return
        repo = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._send(200, {"files": files}, Content_Type="application/json")
            return
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        sha = self.hub.commit(repo, files)
        url = f"{self.hub.url}/{repo}/commit/{sha}"
        self._send(200, {"success": True, "commitOid": sha, "commitUrl": url}, Content_Type="application/json")
