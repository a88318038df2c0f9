"""Ports that are free, taken or forbidden."""

from __future__ import annotations

import socket

import pytest

from localstack.errors import StackError
from localstack.layout import stack_ports
from localstack.ports import check_ports, free_base_port


def test_free_ports_pass() -> None:
    check_ports(free_base_port(4), 4)


def test_a_port_in_use_is_named_with_its_purpose_and_free_ones_instead() -> None:
    base = free_base_port(4)
    with socket.create_server(("127.0.0.1", base + 103)), pytest.raises(StackError) as refused:
        check_ports(base, 4)
    assert f"Port {base + 103} (for instance 3) is in use" in str(refused.value)
    other = int(str(refused.value).rstrip(".").rpartition(" ")[2])
    check_ports(other, 4)


def test_a_port_in_use_on_every_address_is_noticed() -> None:
    base = free_base_port(1)
    with socket.create_server(("", base)), pytest.raises(StackError, match=f"Port {base} "):
        check_ports(base, 1)


def test_a_connection_that_lingers_is_not_in_the_way() -> None:
    base = free_base_port(1)
    with socket.create_server(("127.0.0.1", base)) as listener, socket.create_connection(("127.0.0.1", base)) as client:
        accepted, _ = listener.accept()
        accepted.close()  # the closing side keeps the port in TIME_WAIT
        assert client.recv(1) == b""
    check_ports(base, 1)


def test_free_ports_are_all_of_a_stacks() -> None:
    base = free_base_port(32)
    for port in stack_ports(base, 32):
        socket.create_server(("127.0.0.1", port)).close()
