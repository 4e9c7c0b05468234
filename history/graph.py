"""The knowledge graph over the flashcards: concepts, what tests them, and what they build on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from history.fsrs import Integers
from history.rows import Rows, activity_pub_id, chunks, uuids

FLASHCARDS_A_CONCEPT = 12
_PREREQUISITES = 3
_NEARBY_CONCEPTS = 20


def concept_rows(ids: Sequence[str], names: Sequence[str]) -> Iterator[Rows]:
    """Yield the rows of `nodes` for concepts."""
    return _node_rows(ids, "Concept", [{"name": name} for name in names])


def flashcard_node_rows(
    flashcards: Sequence[str],
    concept: Integers,
    concepts: Sequence[str],
    generator: np.random.Generator,
) -> Iterator[Rows]:
    """Yield the nodes of flashcards, and the edges to the concepts they test.

    `concept` holds each flashcard's position in `concepts`. Two edges in three carry a weight.
    """
    ids = uuids(generator, len(flashcards))
    properties = [{"flashcardId": activity_pub_id(flashcard)} for flashcard in flashcards]
    yield from _node_rows(ids, "Flashcard", properties)
    positions: list[int] = concept.tolist()
    targets = [concepts[position] for position in positions]
    yield from _edge_rows(ids, targets, "TESTS", generator)


def prerequisite_rows(concepts: Sequence[str], generator: np.random.Generator) -> Iterator[Rows]:
    """Yield edges from concepts to up to three nearby, earlier ones they build on: no cycles."""
    later: list[int] = []
    earlier: list[int] = []
    for position in range(1, len(concepts)):
        nearby = min(position, _NEARBY_CONCEPTS)
        wanted = min(nearby, int(generator.integers(0, _PREREQUISITES + 1)))
        chosen = generator.choice(nearby, wanted, replace=False)
        later += [position] * wanted
        earlier += [position - 1 - int(distance) for distance in chosen]
    yield from _edge_rows(
        [concepts[position] for position in later],
        [concepts[position] for position in earlier],
        "PREREQUISITE",
        generator,
    )


def _node_rows(
    ids: Sequence[str], type_: str, properties: Sequence[dict[str, str]]
) -> Iterator[Rows]:
    lines = [
        f"{id_}\t{type_}\t{_json(values)}" for id_, values in zip(ids, properties, strict=True)
    ]
    return chunks("nodes", ("id", "type", "properties"), lines)


def _edge_rows(
    sources: Sequence[str], targets: Sequence[str], type_: str, generator: np.random.Generator
) -> Iterator[Rows]:
    weighted = (generator.random(len(sources)) < 2 / 3).tolist()
    weights = generator.uniform(0.2, 1.0, len(sources)).round(2).tolist()
    lines = [
        f"{id_}\t{source}\t{target}\t{type_}\t{_json({'weight': weight} if has_weight else {})}"
        for id_, source, target, has_weight, weight in zip(
            uuids(generator, len(sources)), sources, targets, weighted, weights, strict=True
        )
    ]
    return chunks("edges", ("id", "sourceId", "targetId", "type", "properties"), lines)


def _json(properties: dict[str, str] | dict[str, float]) -> str:
    return json.dumps(properties).replace("\\", "\\\\")
