"""The guard of a stack of one's own: waits for the end of the Python that made it, then ends and forgets the stack.

Its standard input is a pipe that only that Python can write to, so the system itself tells the end, on every system and
however it came about.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.stdin.read()
    folder = Path(sys.argv[1])
    if (folder / "stack.json").exists():  # else the stack was ended in order
        from kafkalab.embedded.stack import Stack  # late: it takes memory, and time that the servers need

        if stack := Stack.at(folder):
            stack.down(wipe=True)
