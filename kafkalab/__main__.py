"""`python -m kafkalab` is the command `kafkalab`."""

from kafkalab.cli import app

app(prog_name="kafkalab")
