"""The complexity job against a real Postgres: agrees with the oracle, writes what differs."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.workers import oracle
from tests.workers.programs import wait_until
from workers import complexity
from workers.complexity_calculation import Result, calculate
from workers.complexity_definition import Definition
from workers.complexity_months import sums_query

START = datetime(2025, 1, 1)  # noqa: DTZ001 -- the column has no time zone
NOW = datetime(2025, 6, 1)  # noqa: DTZ001
DEFINITION = Definition()


@dataclass(frozen=True)
class World:
    """A small graph with its reviews; actors and nodes are numbers."""

    nodes: int
    edges: list[tuple[int, int, float]]
    reviews: list[oracle.Review]
    log_losses: dict[int, float | None]


def _snapshots() -> st.SearchStrategy[tuple[float | None, float | None, float | None]]:
    some = st.tuples(
        st.one_of(st.just(0.0), st.floats(0.01, 100)), st.floats(0.01, 100), st.floats(0, 1)
    )
    return st.one_of(st.just((None, None, None)), some)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    nodes = draw(st.integers(1, 8))
    actors = draw(st.integers(1, 4))
    node, actor = st.integers(0, nodes - 1), st.integers(0, actors - 1)
    edge = st.tuples(node, node, st.sampled_from([1.0, 0.5, 2.5, 0.0, -1.0]))
    review = st.builds(
        lambda actor, node, rating, minutes, snapshot: oracle.Review(
            actor, node, rating, START + timedelta(minutes=minutes), *snapshot
        ),
        actor,
        node,
        st.integers(1, 4),
        st.integers(0, 200_000),
        _snapshots(),
    )
    losses = st.one_of(st.none(), st.floats(0.05, 2))
    return World(
        nodes,
        draw(st.lists(edge, max_size=16)),
        draw(st.lists(review, max_size=30)),
        {number: draw(losses) for number in range(actors)},
    )


def store(connection: psycopg.Connection, world: World) -> list[UUID]:
    """Put the world into the emptied tables; return the nodes' ids."""
    connection.execute("TRUNCATE actors, flashcards, review_logs, nodes, edges")
    actors = {number: uuid4() for number in world.log_losses}
    cards = [uuid4() for _ in range(world.nodes)]
    nodes = [uuid4() for _ in range(world.nodes)]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO actors (id, fsrs_log_loss) VALUES (%s, %s)",
            [(actors[number], loss) for number, loss in world.log_losses.items()],
        )
        cursor.executemany(
            "INSERT INTO flashcards VALUES (%s, %s)", [(card, f"card:{card}") for card in cards]
        )
        cursor.executemany(
            "INSERT INTO nodes VALUES (%s, 'Flashcard', %s)",
            [
                (node, json.dumps({"flashcardId": f"card:{card}"}))
                for node, card in zip(nodes, cards, strict=True)
            ],
        )
        cursor.executemany(
            'INSERT INTO edges ("sourceId", "targetId", type, properties) VALUES (%s, %s, %s, %s)',
            [
                # A missing weight means 1.
                (nodes[s], nodes[t], "teaches", None if w == 1 else json.dumps({"weight": w}))
                for s, t, w in world.edges
            ],
        )
        cursor.executemany(
            'INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time,'
            ' reviewed_at, "previousState") VALUES (%s, %s, %s, %s, 0, %s, %s)',
            [
                (
                    cards[r.node],
                    actors[r.actor],
                    r.rating,
                    json.dumps({} if r.after is None else {"stability": r.after}),
                    r.at,
                    None
                    if r.before is None
                    else json.dumps({"stability": r.before, "retrievability": r.retrievability}),
                )
                for r in world.reviews
            ],
        )
    return nodes


def stored_scores(connection: psycopg.Connection) -> dict[UUID, float]:
    rows = connection.execute(
        "SELECT id, (properties->>'cdc_score')::float8 FROM nodes WHERE properties ? 'cdc_score'"
    )
    return dict(rows.fetchall())


def run(connection: psycopg.Connection) -> Result:
    return calculate(connection, DEFINITION)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(world=worlds())
def test_the_oracle_agrees_on_random_graphs(connection: psycopg.Connection, world: World) -> None:
    nodes = store(connection, world)
    result = run(connection)
    expected = oracle.scores(world.nodes, world.edges, world.reviews, world.log_losses, NOW)
    found = stored_scores(connection)
    assert set(found) == {nodes[number] for number in expected}
    for number, score in expected.items():
        assert found[nodes[number]] == pytest.approx(score, abs=1e-9)
    assert result.reviews == len(world.reviews)
    assert result.scored == len(expected)


def test_the_oracle_agrees_on_a_crowd_of_actors_before_and_after_another_day(
    connection: psycopg.Connection,
) -> None:
    # Parts of thousands of opinions, and cards with one among those with hundreds.
    chance = random.Random(9)

    def review(day: int) -> oracle.Review:
        return oracle.Review(
            chance.randrange(1000),
            int(2000 * chance.random() ** 6),
            chance.randint(1, 4),
            START + timedelta(days=day, seconds=chance.randrange(86_400)),
            *(chance.uniform(0.01, 100), chance.uniform(0.01, 100), chance.random()),
        )

    before = [review(chance.randrange(140)) for _ in range(40_000)]
    world = World(
        2000,
        [(chance.randrange(2000), chance.randrange(2000), 1.0) for _ in range(3000)],
        before + [review(140) for _ in range(150)],
        {actor: chance.uniform(0.05, 2) for actor in range(1000)},
    )
    nodes = store(connection, world)

    def expect_the_oracle_s(reviews: list[oracle.Review]) -> None:
        run(connection)
        expected = oracle.scores(world.nodes, world.edges, reviews, world.log_losses, NOW)
        found = stored_scores(connection)
        assert found.keys() == {nodes[number] for number in expected}
        # What differs by less than 1e-9 is not written.
        assert max(abs(found[nodes[node]] - score) for node, score in expected.items()) < 2e-9

    connection.execute(
        "CREATE TEMPORARY TABLE last_day AS SELECT * FROM review_logs WHERE reviewed_at >= %s",
        [START + timedelta(days=140)],
    )
    connection.execute("DELETE FROM review_logs WHERE id IN (SELECT id FROM last_day)")
    expect_the_oracle_s(before)
    connection.execute("INSERT INTO review_logs SELECT * FROM last_day")
    expect_the_oracle_s(world.reviews)


@pytest.mark.parametrize(
    ("weights", "alike"),
    [
        # JSON has numbers that no double has, and some whose sum or inverse has none.
        (("1e400", "1e-400"), (1e30, 1e-30)),
        (("1e308", "1e308"), (1e30, 1e30)),
        (("1e-310", "2"), (1e-30, 2.0)),
    ],
)
def test_weights_of_any_size_are_taken(
    connection: psycopg.Connection, weights: tuple[str, str], alike: tuple[float, float]
) -> None:
    edges = [(0, 1, alike[0]), (1, 2, alike[1]), (2, 3, 1.0)]
    reviews = [oracle.Review(0, node, 1 + node, START) for node in (0, 1, 3)]
    world = World(4, edges, reviews, {0: None})
    nodes = store(connection, world)
    for source, weight in enumerate(weights):
        connection.execute(
            "UPDATE edges SET properties = jsonb_build_object('weight', %s::numeric)"
            ' WHERE "sourceId" = %s',
            [weight, nodes[source]],
        )
    run(connection)
    expected = oracle.scores(4, edges, reviews, {0: None}, NOW)
    found = stored_scores(connection)
    assert found == pytest.approx({nodes[node]: score for node, score in expected.items()})


def test_reviews_without_an_actor_or_a_card_are_left_out(connection: psycopg.Connection) -> None:
    reviews = [oracle.Review(0, node, 1 + node, START) for node in range(3)]
    world = World(3, [(0, 1, 1.0)], reviews, {0: None})
    nodes = store(connection, world)
    for column in ("actorId", "flashcardId"):
        name = sql.Identifier(column)
        connection.execute(
            sql.SQL("ALTER TABLE review_logs ALTER COLUMN {} DROP NOT NULL").format(name)
        )
        connection.execute(
            sql.SQL(
                'INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time)'
                ' SELECT "flashcardId", "actorId", 1, state, 0 FROM review_logs LIMIT 1'
            )
        )
        connection.execute(
            sql.SQL("UPDATE review_logs SET {} = NULL WHERE reviewed_at > %s").format(name), [NOW]
        )
    result = run(connection)
    assert result.reviews == 3
    expected = oracle.scores(3, world.edges, reviews, {0: None}, NOW)
    found = stored_scores(connection)
    assert found == pytest.approx({nodes[node]: score for node, score in expected.items()})


@pytest.mark.parametrize("properties", ["[]", '["a"]', '"text"', "7"])
def test_properties_that_are_no_object_stay_as_they_are(
    connection: psycopg.Connection, properties: str
) -> None:
    world = World(2, [(0, 1, 1.0)], [oracle.Review(0, 0, 1, START)], {0: None})
    nodes = store(connection, world)
    connection.execute(
        "UPDATE nodes SET properties = %s::jsonb WHERE id = %s", [properties, nodes[1]]
    )
    for _ in range(2):
        run(connection)
    row = connection.execute(
        "SELECT properties = %s::jsonb FROM nodes WHERE id = %s", [properties, nodes[1]]
    ).fetchone()
    assert row == (True,)


def test_a_node_whose_properties_are_the_null_of_json_gets_its_score(
    connection: psycopg.Connection,
) -> None:
    world = World(2, [(0, 1, 1.0)], [oracle.Review(0, 0, 1, START)], {0: None})
    nodes = store(connection, world)
    connection.execute("UPDATE nodes SET properties = 'null' WHERE id = %s", [nodes[1]])
    assert [run(connection).written for _ in range(2)] == [2, 0]
    assert set(stored_scores(connection)) == set(nodes)


def test_hubs_of_very_many_nodes_converge_as_any() -> None:
    leaves = 200_000
    source = np.arange(2, leaves + 2, dtype=np.int32)
    target = (source % 2).astype(np.int32)
    neighbours = complexity.adjacency(leaves + 2, source, target, np.ones(leaves))
    base = np.random.default_rng(3).random(leaves + 2)
    scores, iterations = complexity.scores(base, neighbours, 0.3)
    assert iterations < 60
    assert not np.isnan(scores).any()


def test_the_weighted_median_of_the_design_s_example_is_044() -> None:
    opinions = [(0.40, 0.9), (0.50, 1.0), (0.45, 0.8), (0.95, 0.2), (0.42, 0.85)]
    assert oracle.weighted_median(opinions) == pytest.approx(0.44, abs=0.005)
    difficulty, reputation = np.array(sorted(opinions)).T
    index, median = complexity.weighted_medians(
        np.zeros(len(opinions), np.int32), difficulty, reputation
    )
    assert list(index) == [0]
    # Half of 3.75 is 1.875; the middles of .42 and .45 are 1.325 and 2.15.
    assert median[0] == pytest.approx(0.42 + 0.03 * (1.875 - 1.325) / (2.15 - 1.325), abs=1e-12)


def test_weighted_medians_of_many_nodes_agree_with_the_oracle() -> None:
    chance = np.random.default_rng(6)
    index = np.sort(chance.integers(0, 400, 5000)).astype(np.int32)
    # Coarse, so that many opinions on a node are the same.
    difficulty = chance.integers(0, 40, 5000) / 40
    reputation = chance.random(5000)
    order = np.lexsort((difficulty, index))
    nodes, medians = complexity.weighted_medians(index[order], difficulty[order], reputation[order])
    assert list(nodes) == list(np.unique(index))
    for node, median in zip(nodes, medians, strict=True):
        opinions = list(zip(difficulty[index == node], reputation[index == node], strict=True))
        assert median == pytest.approx(oracle.weighted_median(opinions), abs=1e-12)


def test_the_median_of_a_single_opinion_is_that_opinion_however_much_was_summed_before() -> None:
    chance = np.random.default_rng(8)
    # The sums run through all of these, and lose the last bits of single weights.
    index = np.concatenate((np.zeros(100_000), np.arange(1, 1001))).astype(np.int32)
    difficulty = np.concatenate((np.sort(chance.random(100_000)), chance.random(1000)))
    nodes, medians = complexity.weighted_medians(index, difficulty, chance.random(len(index)))
    assert list(nodes) == list(range(1001))
    assert list(medians[1:]) == list(difficulty[100_000:])


@pytest.mark.parametrize(
    ("rating", "before", "after", "retrievability", "expected"),
    [
        # 0.5 * 1.0 + 0.3 * min(1, 10 / 2) + 0.2 * (1 + 0.9 - 0) / 2
        pytest.param(1, 10.0, 2.0, 0.9, 0.99, id="failing at high recall is hard"),
        # 0.5 * 0.0 + 0.3 * 5 / 20 + 0.2 * (1 + 0.5 - 1) / 2
        pytest.param(4, 5.0, 20.0, 0.5, 0.125, id="passing at low recall is easy"),
        # 0.5 * 0.6 + 0.3 * 8 / 10 + 0.2 * (1 + 0.8 - 1) / 2
        pytest.param(2, 8.0, 10.0, 0.8, 0.62, id="hard with little gain"),
        pytest.param(3, None, None, None, 0.2, id="no snapshot: the grade alone"),
        pytest.param(1, 0.0, 3.0, 1.0, 1.0, id="first review: the grade alone"),
    ],
)
def test_the_signal_of_one_review_is_as_computed_by_hand(
    connection: psycopg.Connection,
    rating: int,
    before: float | None,
    after: float | None,
    retrievability: float | None,
    expected: float,
) -> None:
    review = oracle.Review(0, 0, rating, START, before, after, retrievability)
    assert oracle.signal(review) == pytest.approx(expected, abs=1e-12)
    store(connection, World(1, [], [review], {0: None}))
    row = connection.execute(
        sql.SQL("SELECT signal / weight FROM ({}) AS sums").format(sums_query(DEFINITION))
    ).fetchone()
    assert row is not None
    assert row[0] == pytest.approx(expected, abs=1e-12)


def test_a_node_without_reviews_takes_its_neighbours_score(connection: psycopg.Connection) -> None:
    reviews = [oracle.Review(0, 0, 1, START), oracle.Review(0, 1, 4, START)]
    nodes = store(connection, World(5, [(0, 2, 1.0), (2, 3, 1.0)], reviews, {0: 0.4}))
    run(connection)
    found = stored_scores(connection)
    assert found[nodes[0]] == found[nodes[2]] == found[nodes[3]] == 1
    assert found[nodes[1]] == 0
    assert nodes[4] not in found  # no path leads to a reviewed node


def test_a_second_run_writes_nothing_and_keeps_other_properties(
    connection: psycopg.Connection,
) -> None:
    reviews = [oracle.Review(0, 0, 1, START), oracle.Review(0, 1, 3, START)]
    store(connection, World(2, [(0, 1, 1.0)], reviews, {0: None}))
    assert run(connection).written == 2
    assert run(connection).written == 0
    row = connection.execute(
        "SELECT count(*) FROM nodes WHERE properties ? 'flashcardId'"
        " AND (properties->>'cdc_version')::int = 1"
    ).fetchone()
    assert row == (2,)


def test_scores_disappear_with_the_reviews_they_came_from(connection: psycopg.Connection) -> None:
    store(connection, World(1, [], [oracle.Review(0, 0, 1, START)], {0: None}))
    run(connection)
    connection.execute("DELETE FROM review_logs")
    run(connection)
    assert stored_scores(connection) == {}


def test_the_table_of_reviews_is_free_again_while_the_scores_are_computed(
    connection: psycopg.Connection, database_url: str
) -> None:
    store(connection, World(1, [], [oracle.Review(0, 0, 1, START)], {0: None}))
    with (
        psycopg.connect(database_url, autocommit=True) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        with other.transaction():
            # Whoever holds the nodes makes the calculation wait where it numbers them.
            other.execute("LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE")
            calculation = thread.submit(run, connection)
            wait_until(
                lambda: (
                    other.execute(
                        "SELECT FROM pg_locks WHERE relation = 'nodes'::regclass AND NOT granted"
                    ).rowcount
                    == 1
                )
            )
            other.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE NOWAIT")
        assert calculation.result().scored == 1


def test_a_calculation_that_fails_leaves_neither_tables_nor_its_lock_behind(
    connection: psycopg.Connection, database_url: str
) -> None:
    store(connection, World(1, [], [oracle.Review(0, 0, 1, START)], {0: None}))
    connection.execute("ALTER TABLE nodes RENAME TO elsewhere")
    with pytest.raises(psycopg.errors.UndefinedTable):
        run(connection)
    connection.execute("ALTER TABLE elsewhere RENAME TO nodes")
    assert run(connection).scored == 1
    with psycopg.connect(database_url, autocommit=True) as other:
        assert run(other).scored == 1
