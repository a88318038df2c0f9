"""A stateless OAuth-style token service: live tokens in Redis, the record of every token in a database."""

__version__ = "0.1.0"
