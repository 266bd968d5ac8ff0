"""A plugin beside pytest-rerunfailures: a cell is tried again in a new kernel that has run the cells before it."""

import traceback
from itertools import takewhile

import pytest
from nbval.plugin import IPyNbCell


def again(item):
    """Return whether this is a cell of a notebook, and its second try."""
    return isinstance(item, IPyNbCell) and getattr(item, "execution_count", 1) > 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """End the kernel in which a cell has failed, and all that it has started: the second try gets another."""
    if again(item):
        kernel = item.parent.kernel
        item.parent.teardown()
        # an error of its setup would be raised for every cell
        _, error = item.session._setupstate.stack.pop(item.parent, (None, None))
        if kernel is not None:
            kernel.kc.parent._launch_args["stderr"].close()  # nbval opens it and leaves it to the garbage collector
        for frame, _ in traceback.walk_tb(error[1] if error else None):  # the same of a kernel that did not start
            if file := frame.f_locals.get("kwargs", {}).get("stderr"):
                file.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """Run the cells before a cell that is tried a second time."""
    if again(item):
        for cell in takewhile(lambda cell: cell.cell_num < item.cell_num, item.parent.collect()):
            cell.runtest()
