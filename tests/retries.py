"""A plugin beside pytest-rerunfailures: a cell is tried again in a new kernel that has run the cells before it."""

from itertools import takewhile

import pytest
from nbval.plugin import IPyNbCell


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """Run the cells before a cell that is tried a second time."""
    if isinstance(item, IPyNbCell) and getattr(item, "execution_count", 1) > 1:
        kernel = item.parent.kernel
        kernel.restart()
        kernel.kc.wait_for_ready(timeout=item.config.option.nbval_kernel_startup_timeout)
        for cell in takewhile(lambda cell: cell.cell_num < item.cell_num, item.parent.collect()):
            cell.runtest()
