import pytest

from smolvla_ros.cli.processes import private_domain


@pytest.fixture
def domain():
    """A ROS domain of the test's own."""
    number, lock = private_domain()
    with lock:
        yield number
