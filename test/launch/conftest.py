import pytest

from smolvla_ros.cli.processes import environment, private_domain


@pytest.fixture
def domain(monkeypatch):
    """A ROS domain of the test's own, on this machine only."""
    number, lock = private_domain()
    for name, value in environment(number).items():
        monkeypatch.setenv(name, value)
    with lock:
        yield number
