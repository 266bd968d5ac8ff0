"""The lab for a terminal."""

import json
import os
import sys
import time
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

import click

from kafkalab import course
from kafkalab.cluster.lab import connect
from kafkalab.embedded import artifacts
from kafkalab.embedded.servers import SERVERS
from kafkalab.embedded.stack import MODE, Stack
from kafkalab.errors import LabError
from kafkalab.programs.count_up import count_up
from kafkalab.programs.multiples import multiples
from kafkalab.programs.print import print_messages
from kafkalab.settings import NOTEBOOKS, ClusterSettings, StackSettings, absolute_paths

REFRESH_SECONDS = 2


class _Commands(click.Group):
    """Commands whose expected errors are one line."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except LabError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """A real Kafka on this machine: ZooKeeper, brokers and a schema registry, without Docker or an installed Java."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal's code page may lack a character of a message
            stream.reconfigure(errors="backslashreplace")


@app.command(epilog="Example: kafkalab fetch --to offline/servers")
@click.option("--to", "target", type=click.Path(path_type=Path), help="Only into this folder, to be moved elsewhere.")
@click.option(
    "--from", "source", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Out of such a folder, without a network.",
)  # fmt: skip
def fetch(target: Path | None, source: Path | None) -> None:
    """Fetch the servers' files and prepare them, once; `up` does it too."""
    if target and source:
        raise click.UsageError("either --to or --from")
    if target:
        artifacts.pack(target)
    else:  # a folder has the files of all modes, and what is not brought from it now cannot be fetched later
        for mode in SERVERS if source else [StackSettings.read().mode or MODE]:
            Stack.fetch(mode, source)


@app.command(epilog="Example: kafkalab up --brokers 3")
@click.option("--brokers", type=int, help="How many, 1 to 5; without it as many as the folder has, or 1.")
@click.option("--mode", type=click.Choice(["zookeeper", "kraft"]), help="With ZooKeeper, or the current Kafka without.")
@click.option("--controllers", type=click.IntRange(0, 5), default=0, help="Controllers of their own; only with kraft.")
@click.option("--secure", is_flag=True, help="With TLS, users with passwords, and permissions.")
@click.option("--connect", "with_connect", is_flag=True, help="With Kafka Connect and PostgreSQL; not with --secure.")
def up(brokers: int | None, mode: str | None, controllers: int, secure: bool, with_connect: bool) -> None:
    """Start the stack, or what is missing of it, and wait until the brokers serve; the registry follows."""
    stack = Stack.shared(brokers, mode=mode, controllers=controllers, secure=secure, connect=with_connect)
    stack.up()
    _print_status(stack)


@app.command(epilog="Example: kafkalab status --json")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Say what runs and where; the exit status is 0 while everything does."""
    stack = Stack.shared()
    if as_json:
        click.echo(json.dumps(stack.status(), indent=2))
    else:
        _print_status(stack)
    sys.exit(stack.state() != "running")


@app.command(epilog="Example: KAFKA_BROKER_URL=localhost:9092 kafkalab doctor")
def doctor() -> None:
    """Examine the cluster that the environment names, else the stack; the exit status is 0 if nothing is wrong."""
    from kafkalab.doctor.examination import examine  # noqa: PLC0415 - it brings what reads certificates

    findings = examine()
    for finding in findings:
        click.echo(f"{'fine' if finding.ok else 'WRONG':7}{finding.text}")
    sys.exit(not all(finding.ok for finding in findings))


@app.command(epilog="Example: kafkalab down --wipe")
@click.option("--wipe", is_flag=True, help="Forget topics, messages, offsets and schemas too.")
def down(wipe: bool) -> None:
    """Stop the stack; the next `up` goes on where it was."""
    Stack.shared().down(wipe=wipe)


@app.command(epilog="Example: kafkalab logs broker-0")
@click.argument("name")
def logs(name: str) -> None:
    """Print what a server has printed."""
    log = Stack.shared().log(name)
    if not log.exists():
        raise LabError(f"{name} has not run yet: `kafkalab up` starts it")
    click.echo(log.read_text(encoding="utf-8", errors="replace"), nl=False)


@app.command(epilog="Example: kafkalab kill broker-1")
@click.argument("name")
def kill(name: str) -> None:
    """End one server at once, as a crash does."""
    Stack.shared().kill(name)


@app.command(epilog="Example: kafkalab start broker-1")
@click.argument("name")
def start(name: str) -> None:
    """Start one server again and wait until it answers."""
    Stack.shared().start(name)


@app.command(epilog="Example: kafkalab lab my-course")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
@click.option("--allow-root", is_flag=True, help="Run as root too, as in a container.")
def lab(folder: Path | None, no_browser: bool, allow_root: bool) -> None:
    """Put the course into a folder, what you have changed there excepted, and open it in JupyterLab.

    Without FOLDER: the course that you are in, the notebooks of a checkout as they are, else kafkalab-course.
    """
    folder = (folder or course.default_folder()).absolute()
    if folder != NOTEBOOKS:
        for sentence in course.put_into(folder):
            click.echo(sentence)
    click.echo(f"Opening {folder} in JupyterLab; press Ctrl-C twice here, or choose File > Shut Down there, to stop it")
    course.open_lab(folder, browser=not no_browser, allow_root=allow_root)


@app.command(epilog="Example: kafkalab run 00 -p messages 100")
@click.argument("notebooks", nargs=-1, metavar="[NOTEBOOK]...")
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter of the notebook.")
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), help="Where the results go.")
@click.option("--in-place", is_flag=True, help="Keep the outputs in the notebooks themselves.")
def run(notebooks: tuple[str, ...], parameters: tuple[tuple[str, str], ...], build: Path, in_place: bool) -> None:
    """Execute notebooks headless, by the start of their names, else all; pages with the figures go to build/."""
    from kafkalab import headless  # noqa: PLC0415 - papermill and nbconvert take a second to import

    if in_place and parameters:
        raise LabError("committed outputs are those of the notebook's own parameters: leave out -p or --in-place")
    if in_place and not course.around() and not course.in_checkout():
        raise LabError(
            "an installed kafkalab keeps no outputs in its own notebooks: go into the folder that `kafkalab lab` made"
        )
    os.environ.update(absolute_paths())  # kernels run in the folders of their notebooks
    shared_out = headless.shared_out(dict(parameters), headless.chosen(notebooks))
    with headless.interruptible(), headless.cluster():
        results = headless.execute_all(shared_out, build, in_place=in_place)
    click.echo(f"The executed notebooks, and a page of each, are in {build}: open {build / 'index.html'}")
    sys.exit(any(results.values()))


_messages = click.option("--messages", type=click.IntRange(min=0), default=10, show_default=True, help="How many.")
_interval = click.option("--interval", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds.")


@app.command("count-up", epilog="Example: kafkalab count-up --messages 100 --interval 0.1")
@_messages
@_interval
def count_up_(messages: int, interval: float) -> None:
    """Send counts in Avro under a registered schema."""
    count_up(connect(), messages, interval, click.echo)


@app.command("multiples", epilog="Example: kafkalab multiples --messages 100 --interval 0.1")
@_messages
@_interval
def multiples_(messages: int, interval: float) -> None:
    """Send squares as text, as a legacy source without a schema does."""
    multiples(connect(), messages, interval, click.echo)


@app.command("print", epilog="Example: KAFKA_CONSUMER_TIMEOUT_MS=5000 kafkalab print")
def print_() -> None:
    """Print what both sources send, until nothing has come for KAFKA_CONSUMER_TIMEOUT_MS."""
    decoded, failed = print_messages(connect(), click.echo)
    click.echo(
        f"no message for {ClusterSettings.read().consumer_timeout_ms} ms: {decoded} decoded, {failed} not",
        err=True,
    )


@app.command("class", epilog="Example: kafkalab class --json")
@click.option("--json", "as_json", is_flag=True, help="Once, for programs.")
def class_(as_json: bool) -> None:
    """Show how far each learner is, again and again until Ctrl-C; once where nobody watches."""
    from kafkalab.classroom import reports  # noqa: PLC0415 - what it needs takes a while to import

    lab = connect()
    if as_json or not sys.stdout.isatty():
        rows = reports.table(lab)
        click.echo(json.dumps(rows, indent=2) if as_json else reports.text(rows))
        return
    with suppress(KeyboardInterrupt):
        while True:
            try:
                shown = reports.text(reports.table(lab))
            except LabError as error:  # the next look may find the cluster again
                shown = str(error)
            click.clear()
            click.echo(shown)
            time.sleep(REFRESH_SECONDS)


def _print_status(stack: Stack) -> None:
    facts = stack.status()
    for key, fact in facts.items():
        if fact and key != "processes":  # a stack that is not secured has no client files
            click.echo(f"{key + ':':21}{fact}")
    for process in stack.processes():
        runs = f"process {process['pid']}, {process['rss_mb']} MB" if process["pid"] else "not running"
        click.echo(f"{process['name']}:".ljust(21) + f"port {process['port']}, {runs}")
