"""EKS Pod Identity on loopback: temporary keys for pods whose service account has a role.

As on EKS a pod shows a token of its service account for the agent's audience; the API server, not
we, says whether it is good and whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.http_stand_in import HttpStandIn
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


class Agent(HttpStandIn):
    """The agent of a node: one address for all its pods."""

    def __init__(self, api: Api, identities: Identities) -> None:
        self._api = api
        self._identities = identities
        super().__init__("GET", lambda headers, _: self.answer(headers.get("Authorization", "")))

    def environment(self, account: Account, token_file: str) -> dict[str, str]:
        """Return what EKS adds to the variables of a pod with an identity; {} without one."""
        if account not in self._identities.roles:
            return {}
        return {
            "AWS_REGION": self._identities.region,
            "AWS_DEFAULT_REGION": self._identities.region,
            "AWS_STS_REGIONAL_ENDPOINTS": "regional",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.address}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token_file,
        }

    def answer(self, token: str) -> tuple[int, bytes]:
        """Return status and body for a pod that shows `token`."""
        account = self._account(token)
        role = self._identities.roles.get(account) if account else None
        if role is None:
            return 400, b"the token is not good, or its service account has no role"
        identity, document = self._identities.keys.document(self._identities.seconds)
        self._identities.role_of_key[identity] = role
        return 200, document

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
