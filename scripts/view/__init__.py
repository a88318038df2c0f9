"""What `scripts/top` shows: one service at a glance, from the metrics of its processes."""
