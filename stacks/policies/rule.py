"""What a rule sees of a resource, and what a rule is. Knows nothing of Pulumi."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast


class _Unknown:
    """A value that only the update will tell."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN: Final = _Unknown()


@dataclass(frozen=True)
class Resource:
    """The inputs of a resource under the names they have on the wire (`storageEncrypted`).

    A value that is not known yet is UNKNOWN: no rule objects to it, for the rule sees it again in
    the update. `protected` is whether the engine refuses to delete it.
    """

    type: str
    name: str
    inputs: Mapping[str, Any]
    protected: bool = False

    def given(self, key: str) -> Any:
        """Return an input, None where it is not given."""
        return self.inputs.get(key)

    def lacks(self, key: str, wanted: object = True) -> bool:
        """Tell whether an input is known not to be `wanted`."""
        value = self.inputs.get(key)
        return value is not UNKNOWN and value != wanted


@dataclass(frozen=True)
class Surroundings:
    """The stack a resource is in. A stack that is to be deleted is `durable` no longer.

    The database of a `replicated` one has a replica.
    """

    durable: bool
    replicated: bool = False


Check = Callable[[Resource, Surroundings], Iterable[str]]


@dataclass(frozen=True)
class Rule:
    """One rule: what it demands, of which types, and the check that yields what is wrong."""

    name: str
    demands: str
    types: frozenset[str]
    check: Check

    def violations(self, resource: Resource, surroundings: Surroundings) -> Iterator[str]:
        """Yield what of the resource breaks the rule."""
        if resource.type in self.types:
            for problem in self.check(resource, surroundings):
                yield f"{resource.name}: {problem} ({self.name}: {self.demands})"


def rule(name: str, demands: str, *types: str) -> Callable[[Check], Rule]:
    """Make a rule of a check."""
    return lambda check: Rule(name, demands, frozenset(types), check)


def known_list(value: Any) -> list[Any]:
    """Return a list as it is, nothing for what is not given or not known, one for one."""
    if value is None or value is UNKNOWN:
        return []
    return list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else [value]


def known_map(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, an empty one for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
