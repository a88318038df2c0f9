"""Which ports of this machine are free."""

from __future__ import annotations

import errno
import secrets
import socket

from localstack.errors import StackError
from localstack.layout import DEFAULT_INSTANCES, HOST, stack_ports

_BASES = range(10000, 32000, 300)
"""Below the ports that Linux and macOS lend to outgoing connections."""


def check_ports(port: int, instances: int) -> None:
    """StackError naming the first port of the stack that cannot be bound."""
    for needed, purpose in stack_ports(port, instances).items():
        refusal = _refusal(needed)
        if refusal == errno.EACCES:
            raise StackError(f"Port {needed} (for {purpose}) needs root: choose ports above 1023, for example with --port 8080.")
        if refusal:
            other = free_base_port(instances)
            raise StackError(f"Port {needed} (for {purpose}) is in use: stop what listens there, or choose others with --port {other}.")


def free_base_port(instances: int = DEFAULT_INSTANCES) -> int:
    """A value for `port` whose ports are all free at this moment."""
    for base in secrets.SystemRandom().sample(_BASES, len(_BASES)):
        if not any(_refusal(port) for port in stack_ports(base, instances)):
            return base
    raise StackError(f"No free ports were found from {_BASES.start} to {_BASES.stop}: name a free one with --port.")


def _refusal(port: int) -> int:
    """The error number that a server would meet on this port, or 0."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a closed connection that lingers is not in the way, a listening socket is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return 0
