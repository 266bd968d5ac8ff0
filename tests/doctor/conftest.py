import pytest

import kafkalab


@pytest.fixture(scope="package")
def secured():
    """A secured stack's lab, for all tests of the doctor."""
    lab = kafkalab.own_stack(secure=True)
    yield lab
    lab.stack.down(wipe=True)
