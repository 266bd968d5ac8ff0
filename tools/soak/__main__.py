"""Round after round for so many minutes, until one does not balance: `make soak`."""

import shutil
import signal
import sys
import time
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import click
import pandas as pd

from kafkalab.embedded.servers import SERVERS
from tools.soak import cluster
from tools.soak.rounds import BREAKS
from tools.soak.tally import Tally, play


@click.command()
@click.option("--minutes", default=60.0, help="How long, in all modes together.", show_default=True)
@click.option("--rounds", type=int, help="How many in each mode, whatever time they take.")
@click.option("--seed", type=int, help="Of the first round; the next one's is one more. Without it, the clock's.")
@click.option("--mode", type=click.Choice(list(SERVERS)), help="Without it, one after the other.")
@click.option("--break", "broken", type=click.Choice(list(BREAKS)), help="One round with this promise broken.")
def main(minutes, rounds, seed, mode, broken):
    """Clients and brokers under random faults; after each round, what was acknowledged has to be in its place."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a job in the background ignores the first
        signal.signal(number, signal.default_int_handler)
    seed = int(time.time()) if seed is None else seed
    rounds = 1 if broken else rounds
    modes, tallies, wrong = [mode] if mode else list(SERVERS), {}, None
    folder = Path(mkdtemp(prefix="kafkalab-soak-"))
    try:
        for each in modes:
            tally = tallies[each] = Tally()
            with cluster.started(each) as brokers:
                print(f"{each}: {brokers.versions}", flush=True)
                end = time.monotonic() + minutes * 60 / len(modes)
                for number in range(rounds) if rounds else count():
                    wrong = play(brokers, seed + number, folder, tally, broken)
                    print(f"{each}, seed {seed + number}: {tally.line()}", flush=True)
                    if wrong or (not rounds and time.monotonic() > end):
                        break
            if wrong:
                break
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    finally:
        table = pd.DataFrame({each: tally.row() for each, tally in tallies.items()}).fillna(0)
        print(table.map(lambda number: f"{number:g}").to_string())
    if wrong:
        sys.exit(wrong)
    folder.rmdir()


if __name__ == "__main__":
    main()
