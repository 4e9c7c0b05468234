"""Ports are chosen free, apart from each other, and kept."""

from __future__ import annotations

import socket

import pytest

from stacks.local.ports import choose_ports


def test_every_name_gets_a_free_port_of_its_own() -> None:
    ports = choose_ports(["a", "b", "c"], {}, {})
    assert len(set(ports.values())) == 3
    for port in ports.values():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    assert all(20_000 <= port < 32_000 for port in choose_ports(["a", "b"], {}, {}).values())


def test_a_port_once_chosen_is_kept_when_a_name_is_added() -> None:
    first = choose_ports(["a"], {}, {})
    assert choose_ports(["a", "b"], {}, first)["a"] == first["a"]


def test_a_fixed_port_is_used_and_never_given_to_another() -> None:
    free = choose_ports(["x"], {}, {})["x"]
    ports = choose_ports(["a", "b"], {"b": free}, {})
    assert ports["b"] == free
    assert ports["a"] != free


def test_a_fixed_port_that_is_taken_is_refused_by_name() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        with pytest.raises(RuntimeError, match=r"local:ports\.postgres: port \d+ is taken"):
            choose_ports(["postgres"], {"postgres": holder.getsockname()[1]}, {})


def test_a_fixed_port_that_the_service_itself_holds_is_kept() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        assert choose_ports(["postgres"], {"postgres": port}, {"postgres": port}) == {
            "postgres": port
        }
