"""A host on loopback, and what the vendors would publish on it."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tools.programs import Program, archive_of, directory_of, this_platform


@dataclass
class ReleaseHost:
    """Serves `files` (path to contents); `asked` lists the paths requested."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Paths of which half is served, then the connection closed."""
    stalled: set[str] = field(default_factory=set)
    """Paths of which half is served, then nothing more until `released`."""
    released: threading.Event = field(default_factory=threading.Event)

    def publish(self, program: Program, archive: bytes, checksum_of: bytes | None = None) -> str:
        """Publish an archive with the checksum of `checksum_of` (the archive itself by default).

        Returns the archive's path.
        """
        directory = "/" + directory_of(program, this_platform())
        name = archive_of(program, this_platform())
        checksum = hashlib.sha256(archive if checksum_of is None else checksum_of).hexdigest()
        checksums = program.release.checksums.format(version=program.version)
        self.files[f"{directory}/{name}"] = archive
        self.files[f"{directory}/{checksums}"] = (
            f"{'0' * 64}  {name}.sbom\n{checksum}  {name}\n".encode()
        )
        return f"{directory}/{name}"

    def publish_files(self, program: Program, checksum_of: bytes | None = None) -> str:
        """Publish each file as it is, its checksum alone in a file beside it.

        Returns the directory's path.
        """
        directory = "/" + directory_of(program, this_platform())
        for name in program.files:
            contents = script(program.version)
            checksum = hashlib.sha256(contents if checksum_of is None else checksum_of).hexdigest()
            self.files[f"{directory}/{name}"] = contents
            self.files[f"{directory}/{name}.sha256"] = checksum.encode()
        return f"{directory}/"


def script(version: str) -> bytes:
    """Return an executable that tells `version` as the real ones do, whatever it is asked."""
    return f"#!/bin/sh\necho 'program, version {version} (branch: HEAD)'\n".encode()


def archive(program: Program, version: str | None = None, leave_out: str = "") -> bytes:
    """Return a release archive as the vendor lays it out, with files nobody asked for."""
    buffer = io.BytesIO()
    top = archive_of(program, this_platform()).removesuffix(".tar.gz")
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in (*program.files, "LICENSE", "../escaped", "nested/extra"):
            if name == leave_out:
                continue
            contents = script(version or program.version)
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return buffer.getvalue()


@contextmanager
def release_host() -> Generator[ReleaseHost]:
    """Run a release host on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append(self.path)
            contents = host.files.get(self.path)
            if contents is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents)))
            self.send_header(
                "Content-Type",
                "text/html" if self.path.endswith("/") else "application/octet-stream",
            )
            self.end_headers()
            if self.path in host.broken | host.stalled:
                self.wfile.write(contents[: len(contents) // 2])
                self.wfile.flush()
                if self.path in host.stalled:
                    host.released.wait(60)
                return
            self.wfile.write(contents)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host = ReleaseHost(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.released.set()
        server.shutdown()
        server.server_close()


@contextmanager
def silent_host() -> Generator[tuple[str, list[socket.socket]]]:
    """Yield the address of a host that takes connections and never answers, and those it took."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            try:
                while True:
                    taken.append(listening.accept()[0])
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", taken
        for connection in taken:
            connection.close()
