"""The HorizontalPodAutoscaler, simulated: what the rendered one would do under a load."""
