"""A release with one, two and four pods of auth in a real cluster: what each number answers, what a request costs, and what held it."""
