"""The record store: clients and the record of every token, in SQL."""
