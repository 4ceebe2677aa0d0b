"""A hub and a package index on this machine, which cut downloads when told to."""

import json
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO


class Server(ThreadingHTTPServer):
    """Serves files by their paths, in whole or in part; `cuts` is how often it breaks off in the middle of one."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], cuts: int = 0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.asked = files, cuts, list[tuple[str, str, str]]()
        """Of each request its verb, its path and its range."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path, span = self.path.partition("?")[0], self.headers.get("Range", "")
        self.server.asked.append((self.command, path, span))
        content = self.server.files.get(path)
        if content is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = int(match[1]) if (match := re.match(r"bytes=(\d+)-", span)) else 0
        part = content[first:]
        self.send_response(206 if first else 200)
        kind = {"api": "application/json", "simple": "text/html"}.get(path.split("/")[1], "application/octet-stream")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if revision := re.search(r"/resolve/(\w+)/", path):
            self.send_header("X-Repo-Commit", revision[1])
        self.end_headers()
        if not body:
            return
        if self.server.cuts and len(part) > 2**16:
            self.server.cuts -= 1
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.connection.close()
        else:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes], cuts: int = 0) -> Iterator[Server]:
    """A server of these files, while the context lasts."""
    server = Server(files, cuts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def hub_files(repository: str, revision: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """What the Hugging Face hub serves of a repository at a commit: large files by sha256, small ones by git's hash."""
    siblings = []
    for name, content in files.items():
        row = {
            "rfilename": name,
            "size": len(content),
            "blobId": sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        }
        if name.endswith(".safetensors"):
            row["lfs"] = {"sha256": sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        siblings.append(row)
    info = json.dumps({"id": repository, "sha": revision, "siblings": siblings}).encode()
    tree = [{"type": "file", "path": row["rfilename"], "size": row["size"], "oid": row["blobId"]} for row in siblings]
    return {
        f"/api/models/{repository}/revision/{revision}": info,
        f"/api/models/{repository}/tree/{revision}": json.dumps(tree).encode(),
        **{f"/{repository}/resolve/{revision}/{name}": content for name, content in files.items()},
    }


def wheel_of(files: Mapping[str, bytes]) -> bytes:
    """A wheel of some-weights 1.0, which pip takes, with these files."""
    packed, info = BytesIO(), "some_weights-1.0.dist-info"
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return packed.getvalue()


def index_files(package: str, wheel: str, content: bytes) -> dict[str, bytes]:
    """What a package index serves of a package with one wheel."""
    link = f'<a href="/files/{wheel}#sha256={sha256(content).hexdigest()}">{wheel}</a>'
    return {
        f"/simple/{package}/": f"<!DOCTYPE html><html><body>{link}</body></html>".encode(),
        f"/files/{wheel}": content,
    }
