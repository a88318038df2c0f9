"""The bench: CPU per request of the service beside references that do less, alternating in one run."""
