"""Runs of load in a cluster: begun, watched, collected and cleaned up from a terminal, through Helm and the Kubernetes API."""
