"""The local stack: everything that the service needs, on this machine, kept alive by supervisord."""

from localstack.errors import StackError
from localstack.stack import Stack
from localstack.statefile import StackState

__all__ = ["Stack", "StackError", "StackState"]
