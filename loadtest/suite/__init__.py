"""One command each: run every endpoint's plan, compare two results, keep a baseline. Starts Locust and wrk; imports neither."""
