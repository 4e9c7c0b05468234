"""Reading the graph: its nodes, which card each stands for, and its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from workers import arrays, complexity
from workers.complexity_months import tune
from workers.database import statement


@dataclass(frozen=True)
class Graph:
    """One entry a node in `ids` (uuids, 16 bytes) and `cards` (their numbers, 0 for none)."""

    ids: npt.NDArray[Any]
    cards: complexity.Indices
    neighbours: complexity.Matrix
    edges: int


def read_graph(connection: psycopg.Connection) -> Graph:
    """Return the graph of one moment, in a transaction of its own."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        tune(connection)
        nodes = arrays.fetch(connection, statement("complexity_nodes"), {"id": "V16", "card": "i4"})
        edges = arrays.unpack(
            connection.cursor(binary=True).execute(statement("complexity_edges")),
            {"source": "i4", "target": "i4", "weight": "f8"},
        )
    return Graph(
        nodes["id"],
        nodes["card"],
        complexity.adjacency(len(nodes["id"]), edges["source"], edges["target"], edges["weight"]),
        len(edges["source"]),
    )


def medians_of_nodes(graph: Graph, medians_of_cards: complexity.Values) -> complexity.Values:
    """Return the median of each node, by the card it stands for; NaN where there is none."""
    # A card that came meanwhile has a number beyond those there are medians for.
    known = graph.cards < len(medians_of_cards)
    medians = np.full(len(graph.cards), np.nan)
    medians[known] = medians_of_cards[graph.cards[known]]
    return medians
