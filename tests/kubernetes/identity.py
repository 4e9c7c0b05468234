"""EKS Pod Identity on loopback: temporary keys for pods whose service account has a role.

As on EKS a pod shows a token of its service account for the agent's audience; the API server, not
we, says whether it is good and whose it is.
"""

from __future__ import annotations

import datetime
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.kubernetes.api import Api, ApiError
from tests.rds import Keys

AUDIENCE = "pods.eks.amazonaws.com"

Account = tuple[str, str]
"""Namespace and name of a service account."""


@dataclass
class Identities:
    """Who has which role, and the keys that were given out for it.

    `roles` may be filled while pods run; what a pod gets is decided when it starts.
    """

    roles: Mapping[Account, str]
    region: str
    keys: Keys = field(default_factory=Keys)
    role_of_key: dict[str, str] = field(default_factory=dict[str, str])
    """The role for which an access key was given."""
    seconds: float = 3600
    """How long keys are good for."""


class Agent:
    """The agent of a node: one address for all its pods."""

    def __init__(self, api: Api, identities: Identities) -> None:
        self._api = api
        self._identities = identities
        agent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = agent.answer(self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def environment(self, account: Account, token_file: str) -> dict[str, str]:
        """Return what EKS adds to the variables of a pod with an identity; {} without one."""
        if account not in self._identities.roles:
            return {}
        return {
            "AWS_REGION": self._identities.region,
            "AWS_DEFAULT_REGION": self._identities.region,
            "AWS_STS_REGIONAL_ENDPOINTS": "regional",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": (
                f"http://127.0.0.1:{self._server.server_port}/v1/credentials"
            ),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token_file,
        }

    def answer(self, token: str) -> tuple[int, bytes]:
        """Return status and body for a pod that shows `token`."""
        account = self._account(token)
        role = self._identities.roles.get(account) if account else None
        if role is None:
            return 400, b"the token is not good, or its service account has no role"
        identity, secret, session = self._identities.keys.new()
        self._identities.role_of_key[identity] = role
        lifetime = datetime.timedelta(seconds=self._identities.seconds)
        until = datetime.datetime.now(datetime.UTC) + lifetime
        document = {
            "AccessKeyId": identity,
            "SecretAccessKey": secret,
            "Token": session,
            "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return 200, json.dumps(document).encode()

    def _account(self, token: str) -> Account | None:
        """Return whose token it is, by the API server's word; None if it is not good."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            path = "/apis/authentication.k8s.io/v1/tokenreviews"
            status = self._api.create(path, review)["status"]
        except ApiError:
            return None
        parts = status.get("user", {}).get("username", "").split(":")
        if not status.get("authenticated") or parts[:2] != ["system", "serviceaccount"]:
            return None
        return parts[2], parts[3]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running_agent(api: Api, identities: Identities) -> Iterator[Agent]:
    agent = Agent(api, identities)
    try:
        yield agent
    finally:
        agent.stop()
