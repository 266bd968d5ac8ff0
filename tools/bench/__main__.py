"""Runs the parts of the bench: `make bench`, or some of them, `make bench ONLY="produce table"`."""

import sys
from pathlib import Path

import click

import kafkalab
from tools.bench import consume, figure, growth, learners, produce, report, series, setup, start, table
from tools.bench.measure import Row

PARTS = {
    "start": start.rows, "setup": setup.rows, "produce": produce.rows, "consume": consume.rows, "table": table.rows,
    "figure": figure.rows, "growth": growth.rows, "series": series.rows, "class": learners.rows,
}  # fmt: skip
ON_A_STACK = ("produce", "consume", "table", "figure", "growth")


def measured(part: str) -> list[Row]:
    if part not in ON_A_STACK:
        return list(PARTS[part]())
    with kafkalab.own_stack() as lab:
        lab.check()  # the start of the registry is over
        return list(PARTS[part](lab))


@click.command()
@click.argument("only", nargs=-1, type=click.Choice(PARTS))
@click.option("--build", type=click.Path(path_type=Path), default="build", help="The folder for the results.")
def main(only: tuple[str, ...], build: Path) -> None:
    """Measure all parts, or only some, and write bench.json and bench.html."""
    done, failed = {}, []
    for part in only or PARTS:
        try:
            done[part] = measured(part)
        except Exception as error:  # noqa: BLE001 - the other parts still measure
            click.echo(f"== {part} failed: {type(error).__name__}: {error}\n", err=True)
            failed.append(part)
        else:
            click.echo(report.printed(part, done[part]))
            report.write(build, done)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
