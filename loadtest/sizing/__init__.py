"""Sizing as code: from the requests that a release is to answer to its values, each number with its formula and where it was measured."""
