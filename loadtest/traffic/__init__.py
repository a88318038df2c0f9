"""What is asked of the service, how often, and which answers are right."""
