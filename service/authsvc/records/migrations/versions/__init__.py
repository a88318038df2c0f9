"""One file for each step of the schema. Steps only add, so that the release before still runs on the newer schema."""
