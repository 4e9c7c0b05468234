"""Releases of the vendors, used only when their published SHA-256 agrees.

A release is one archive, or each executable as it is. Two kinds of trouble are kept apart. One that
cannot be had (no network, no archive for this
platform, no checksum published for it) is `ReleaseUnavailable`: the caller builds from source. An
archive whose checksum differs is `TamperedArchive`: somebody may be in the way, so all stops.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from tools.programs import Platform, Program, ToolsError, archive_of, directory_of
from tools.progress import Step

_FIRST_ANSWER_SECONDS = 5
"""How long the release host has for its first answer: one that is out of reach costs no more."""
_STALL_SECONDS = 30
_CHECKSUMS_BYTES = 1_000_000
_CHUNK_BYTES = 1 << 18


class ReleaseUnavailable(Exception):  # noqa: N818 - a state of the world, not an error of ours
    """No archive with a published checksum can be had; the message says why."""


class TamperedArchive(ToolsError):  # noqa: N818 - names what the archive is
    """An archive is not the one whose checksum was published."""


class _Interrupted(Exception):  # noqa: N818 - likewise
    """The connection broke in the middle of a download."""


class Releases:
    """The release hosts; one that was out of reach is not asked again."""

    def __init__(self, host: str | None = None) -> None:
        self._mirror = host or os.environ.get("TOOLS_RELEASES")
        self._out_of_reach: dict[str, str] = {}

    def url(self, program: Program, on: Platform, file: str) -> str:
        """Return where a file of the release is published; its directory for the file ""."""
        host = (self._mirror or program.release.host).rstrip("/")
        return f"{host}/{directory_of(program, on)}/{file}"

    def fetch(self, program: Program, on: Platform, directory: Path, step: Step) -> str:
        """Put the files of `program` into `directory`, checked; return the release's URL.

        Raises ReleaseUnavailable or TamperedArchive.
        """
        archive = archive_of(program, on)
        if archive:
            path = self._checked(program, on, archive, directory, step)
            _extract(path, program.files, directory)
            path.unlink()
        else:
            for name in program.files:
                self._checked(program, on, name, directory, step).chmod(0o755)
        return self.url(program, on, archive)

    def _checked(
        self, program: Program, on: Platform, name: str, directory: Path, step: Step
    ) -> Path:
        """Put one published file into `directory` if its checksum agrees; return where it is."""
        url = self.url(program, on, name)
        published = self._published_checksum(program, on, name)
        path = directory / name
        step.update(name)
        attempts = Retrying(
            stop=stop_after_attempt(3),
            wait=wait_fixed(1),
            retry=retry_if_exception_type(_Interrupted),
            reraise=True,
        )
        try:
            got = attempts(self._download, url, path, step)
        except _Interrupted as error:
            raise ReleaseUnavailable(f"{url}: {error}") from error
        if got != published:
            path.unlink()
            raise TamperedArchive(
                f"{url} is not what its publisher made: its SHA-256 is {got}, published is "
                f"{published}. Nothing of it was installed, nothing is built in its place. Find "
                f"out who changed it (a mirror in TOOLS_RELEASES, a proxy), or install "
                f"{program.name} {program.version} by hand so that it is on PATH: {program.by_hand}"
            )
        return path

    def _published_checksum(self, program: Program, on: Platform, name: str) -> str:
        checksums = program.release.checksums.format(version=program.version, file=name)
        url = self.url(program, on, checksums)
        with self._open(url, _FIRST_ANSWER_SECONDS) as response:
            try:
                text = response.read(_CHECKSUMS_BYTES).decode("utf-8", "replace")
            except (OSError, http.client.HTTPException) as error:
                raise ReleaseUnavailable(f"{url}: {error!r}") from error
        for line in text.splitlines():
            # `sha256sum` writes a star before the names of binary files.
            match line.split():
                case [checksum, file] if file.removeprefix("*") == name:
                    return checksum.lower()
                case [checksum] if "{file}" in program.release.checksums:
                    return checksum.lower()
                case _:
                    pass
        raise ReleaseUnavailable(f"{url} publishes no checksum of {name}")

    def _download(self, url: str, path: Path, step: Step) -> str:
        """Write what `url` serves to `path`; return its SHA-256."""
        digest = hashlib.sha256()
        done = 0
        with self._open(url, _STALL_SECONDS) as response, path.open("wb") as file:
            length = response.headers["Content-Length"]
            total = int(length) if length else None
            try:
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    step.update(path.name, done, total)
            except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
                raise _Interrupted(f"the download broke off: {error!r}") from error
        if total is not None and done < total:
            raise _Interrupted(f"the download broke off after {done} of {total} bytes")
        return digest.hexdigest()

    def _open(self, url: str, seconds: float) -> http.client.HTTPResponse:
        host = urlsplit(url).netloc
        if host in self._out_of_reach:
            raise ReleaseUnavailable(self._out_of_reach[host])
        request = urllib.request.Request(url, headers={"User-Agent": "make-tools"})  # noqa: S310
        try:
            return urllib.request.urlopen(request, timeout=seconds)  # noqa: S310 - host is ours
        except urllib.error.HTTPError as error:
            raise ReleaseUnavailable(f"{url}: {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            self._out_of_reach[host] = f"{host} is out of reach: {reason}"
            raise ReleaseUnavailable(self._out_of_reach[host]) from error


def _extract(archive: Path, names: tuple[str, ...], directory: Path) -> None:
    """Take the files `names`, and only those, out of the archive's one top directory."""
    wanted = set(names)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./").partition("/")[2]
                if name not in wanted or not member.isfile():
                    continue
                source = tar.extractfile(member)
                if source is not None:
                    _write_executable(source, directory / name)
                    wanted.discard(name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ReleaseUnavailable(f"{archive.name} cannot be unpacked: {error}") from error
    if wanted:
        raise ReleaseUnavailable(f"{archive.name} lacks {', '.join(sorted(wanted))}")


def _write_executable(source: IO[bytes], path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(source, file)
    path.chmod(0o755)
