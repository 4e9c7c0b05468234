"""The database is named by DATABASE_URL; errors say what to do and hold no secret."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from migrations.database import DatabaseError, connect, database_url, place
from tests.servers import free_port


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "DATABASE_URL is not set"),
        ("  ", "DATABASE_URL is not set"),
        ("mysql://root:hunter2@db/x", "no Postgres URL"),
        ("host=db password=hunter2", "no Postgres URL"),
        ("postgresql://u:hunter2@db:54x32/y?nonsense=1", "cannot be read"),
    ],
)
def test_a_missing_or_wrong_url_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, value: str | None, message: str
):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("DATABASE_URL", value)
    with pytest.raises(DatabaseError, match=message) as refused:
        database_url()
    assert "hunter2" not in str(refused.value)
    assert "postgresql://role:password@host:port/database" in str(refused.value)


def test_an_unreachable_server_is_named_without_the_password():
    port = free_port()
    with pytest.raises(DatabaseError, match=f"cannot connect to u@127.0.0.1:{port}/x") as failed:
        connect(f"postgresql://u:hunter2@127.0.0.1:{port}/x", "test")
    assert "hunter2" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_wrong_password_is_said_without_showing_it(database_url: str):
    parts = conninfo_to_dict(database_url)
    wrong = database_url.replace(str(parts["password"]), "hunter2")
    with pytest.raises(DatabaseError, match="password authentication failed") as failed:
        connect(wrong, "test")
    assert "hunter2" not in str(failed.value)


def test_other_sessions_see_the_name_and_a_dead_peer_is_noticed(database_url: str):
    with connect(database_url, "a name") as connection:
        row = connection.execute(
            "SELECT application_name, current_setting('tcp_keepalives_idle')"
            " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        assert row is not None
        assert row[0] == "a name"
        assert connection.autocommit
        assert connection.info.get_parameters()["keepalives_idle"] == "10"


def test_settings_in_the_url_win_over_the_defaults(database_url: str):
    url = f"{database_url}?keepalives_idle=99&options=-csearch_path%3Dpg_catalog"
    with connect(url, "test", autocommit=False) as connection:
        assert connection.info.get_parameters()["keepalives_idle"] == "99"
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)


def test_a_place_has_no_password():
    assert place("postgresql://u:hunter2@db.example:6432/x?sslmode=require") == (
        "u@db.example:6432/x"
    )
