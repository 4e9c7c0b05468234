"""Rules for what is in the cluster beside pods: charts, namespaces, volumes, ways in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stacks.policies.aws import EVERYBODY
from stacks.policies.rule import UNKNOWN, Resource, Surroundings, known_list, known_map, rule

_EXACT = re.compile(r"^v?\d+\.\d+\.\d+$")
_ALB = "alb.ingress.kubernetes.io"


@rule("pinned-chart", "a chart has one exact version", "kubernetes:helm.sh/v3:Release")
def pinned_chart(resource: Resource, _: Surroundings) -> Iterator[str]:
    version = resource.given("version")
    if version is not UNKNOWN and not _EXACT.match(str(version)):
        yield f"version is {version}"
    repository = known_map(resource.given("repositoryOpts")).get("repo")
    if isinstance(repository, str) and not repository.startswith(("https://", "oci://")):
        yield f"comes from {repository}"


@rule("pod-standard", "a namespace says what its pods may do", "kubernetes:core/v1:Namespace")
def pod_standard(resource: Resource, _: Surroundings) -> Iterator[str]:
    labels = known_map(resource.given("metadata")).get("labels")
    if labels is not UNKNOWN and not known_map(labels).get("pod-security.kubernetes.io/enforce"):
        yield "has no label pod-security.kubernetes.io/enforce"


@rule("encrypted-volumes", "volumes are encrypted", "kubernetes:storage.k8s.io/v1:StorageClass")
def encrypted_volumes(resource: Resource, _: Surroundings) -> Iterator[str]:
    parameters = resource.given("parameters")
    if parameters is not UNKNOWN and known_map(parameters).get("encrypted") != "true":
        yield "parameters.encrypted is not true"


@rule(
    "private-ingress",
    "a way in is inside the network, over TLS, and for those who are named",
    "kubernetes:networking.k8s.io/v1:Ingress",
)
def private_ingress(resource: Resource, _: Surroundings) -> Iterator[str]:
    annotations = known_map(resource.given("metadata")).get("annotations")
    if annotations is UNKNOWN:
        return
    given = known_map(annotations)
    if given.get(f"{_ALB}/scheme") not in ("internal", UNKNOWN):
        yield "scheme is not internal"
    tls = known_list(known_map(resource.given("spec")).get("tls"))
    if not tls and not given.get(f"{_ALB}/certificate-arn"):
        yield "has no certificate"
    if '"HTTP"' in str(given.get(f"{_ALB}/listen-ports")):
        yield "listens without TLS"
    cidrs = given.get(f"{_ALB}/inbound-cidrs")
    if not cidrs:
        yield "inbound-cidrs is not given"
    elif isinstance(cidrs, str) and set(EVERYBODY) & {each.strip() for each in cidrs.split(",")}:
        yield f"inbound-cidrs is {cidrs}"


RULES = (pinned_chart, pod_standard, encrypted_volumes, private_ingress)
