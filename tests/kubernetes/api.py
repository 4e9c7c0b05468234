"""The Kubernetes API as the stand-in for nodes needs it: requests and answers as they are, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3

Object = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/strategic-merge-patch+json"

_SECONDS = 30


class ApiError(Exception):
    """What the server refused, in its words; `status` is the answer's code, 0 without one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """A server of the API, seen with a bearer's token; may be used by many threads at once."""

    def __init__(self, url: str, token: str, authority: Path) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(maxsize=32, ca_certs=str(authority), retries=False)

    def get(self, path: str) -> Object:
        return self.request("GET", path)

    def create(self, path: str, body: Object) -> Object:
        return self.request("POST", path, body)

    def delete(self, path: str, body: Object | None = None) -> Object:
        return self.request("DELETE", path, body)

    def patch(self, path: str, body: Object) -> Object:
        """Change what `body` names, lists by their keys."""
        return self.request("PATCH", path, body, MERGE)

    def apply(self, path: str, body: Object | bytes) -> Object:
        """Apply an object or its YAML, by server-side apply; return what it became."""
        return self.request("PATCH", f"{path}?fieldManager=tests&force=true", body, APPLY)

    def request(
        self,
        method: str,
        path: str,
        body: Object | bytes | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Return the server's answer; raise ApiError if that is no success, or none comes."""
        answer = self._send(method, path, body, content_type)
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {_message(answer.data)}")
        return json.loads(answer.data)

    def answers(self, path: str) -> bool:
        """Return whether the server answers a request for `path` with success."""
        try:
            return self._send("GET", path, None, "application/json").status < 400
        except ApiError:
            return False

    def _send(
        self, method: str, path: str, body: Object | bytes | None, content_type: str
    ) -> urllib3.BaseHTTPResponse:
        data = json.dumps(body).encode() if isinstance(body, Mapping) else body
        headers = {**self._headers, "Content-Type": content_type}
        try:
            return self._pool.request(
                method, self._url + path, body=data, headers=headers, timeout=_SECONDS
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"{method} {path}: {error}") from error

    def watch(self, path: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """Yield what happens to the objects of a collection since `version`: kind and object.

        Ends by itself after so many seconds, or when the server ends it; raises ApiError.
        """
        url = f"{self._url}{path}?watch=true&resourceVersion={version}&timeoutSeconds={seconds}"
        try:
            answer = self._pool.request(
                "GET",
                url,
                headers=self._headers,
                preload_content=False,
                timeout=urllib3.Timeout(connect=_SECONDS, read=seconds + _SECONDS),
            )
            if answer.status >= 400:
                raise ApiError(answer.status, f"watching {path}: {_message(answer.read())}")
            rest = b""
            for chunk in answer.stream(None):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", 0), status.get("message", ""))
                    yield event["type"], event["object"]
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"watching {path}: {error}") from error


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
