"""The chart's values: one typed model, and what is written from it."""
