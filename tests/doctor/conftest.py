import pytest

import kafkalab


@pytest.fixture(scope="package")
def secured():
    """A secured stack's lab, for all tests of the doctor."""
    with kafkalab.own_stack(secure=True) as lab:
        yield lab
