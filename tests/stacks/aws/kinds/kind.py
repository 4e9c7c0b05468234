# ruff: noqa: ARG002, the signatures are given
"""What every kind of resource has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tests.stacks.aws.kinds.cloud import Cloud

Inputs = dict[str, Any]
Mapped = Mapping[str, str | Callable[[Any], dict[str, Any]]]


class UnknownPropertyError(Exception):
    """The stand-in has no request for a property, so it would not be checked."""


def request(inputs: Inputs, mapped: Mapped, local: frozenset[str] | set[str]) -> dict[str, Any]:
    """Return the request of `inputs`: each property under the name that the service gives it.

    A property of `local` is the provider's own affair (`tags` are added by the kind). Raises
    UnknownPropertyError for one that is neither.
    """
    params: dict[str, Any] = {}
    for name, value in inputs.items():
        if name in mapped:
            target = mapped[name]
            params.update({target: value} if isinstance(target, str) else target(value))
        elif name not in local and name not in ("tags", "region", "__defaults"):
            raise UnknownPropertyError(f"the stand-in does not know the property {name}")
    return params


class Kind:
    """One type of resource.

    What is neither in `updatable` nor in `local` cannot be changed in place: a change replaces the
    resource. `autonamed` is the property that gets a random suffix where the program gives none.
    """

    updatable: ClassVar[frozenset[str]] = frozenset()
    local: ClassVar[frozenset[str]] = frozenset()
    autonamed: ClassVar[str] = ""
    longest_name: ClassVar[int] = 255

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        """Make it; return its id and the outputs beside the inputs."""
        raise NotImplementedError

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        """Return what AWS says now of the properties that can drift; raises GoneError."""
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        """Change it in place; return what changed of the outputs."""
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        """Take it away."""
        raise NotImplementedError

    def replaces(self, changed: set[str]) -> set[str]:
        """Return which of the changed properties cannot be changed in place."""
        return changed - self.updatable - self.local - {"tags"}

    def named(self, inputs: Inputs, name: str, suffix: str) -> Inputs:
        """Return the inputs with a name."""
        if not self.autonamed or self.autonamed in inputs:
            return inputs
        return {**inputs, self.autonamed: f"{name[: self.longest_name - 8]}-{suffix}"}
