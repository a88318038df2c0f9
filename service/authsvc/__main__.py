"""`python -m authsvc`."""

from authsvc.commands.main import run

run()
