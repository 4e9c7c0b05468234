"""Programs for the tests of the stand-in: a provider, a namespace, and what a test adds."""

from __future__ import annotations

_HEAD = """
import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

provider = k8s.Provider(
    "provider",
    kubeconfig=Path(os.environ["TEST_KUBECONFIG"]).read_text(),
    {settings}
)
namespace = k8s.core.v1.Namespace(
    "namespace",
    metadata=k8s.meta.v1.ObjectMetaArgs(
        name=os.environ["TEST_NAMESPACE"],
        labels={{"pod-security.kubernetes.io/enforce": "restricted"}},
    ),
    opts=pulumi.ResourceOptions(provider=provider),
)


def metadata(name=None, **annotations):
    return k8s.meta.v1.ObjectMetaArgs(
        name=name,
        namespace=namespace.metadata.name,
        annotations={{f"pulumi.com/{{key}}": value for key, value in annotations.items()}} or None,
    )


def options(*after):
    return pulumi.ResourceOptions(provider=provider, depends_on=list(after))


"""

POD = """
def pod(command, restart=None):
    return {
        "metadata": {"labels": {"app": "tested"}},
        "spec": {
            "restartPolicy": restart,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "tested",
                    "image": "registry.test/image@sha256:" + "0" * 64,
                    "command": command,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "resources": {
                        "requests": {"cpu": "0.1", "memory": "1024Mi"},
                        "limits": {"memory": "1024Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


"""


def source(body: str, settings: str = "enable_patch_force=True,") -> str:
    """Return a program with `body` after the namespace; `settings` are the provider's."""
    return _HEAD.format(settings=settings) + body
