"""The commands: each wires what it needs together; nobody imports them."""
