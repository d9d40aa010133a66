"""QoS profiles, by what a topic carries."""

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)


def _keep_last(depth: int, reliability: ReliabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        # Never transient-local for motion: a restarted reader must not get an old command.
        durability=DurabilityPolicy.VOLATILE,
    )


SENSOR_DATA = qos_profile_sensor_data
"""Camera streams: the newest picture, late ones dropped."""


def pictures(reliability: str) -> QoSProfile:
    """A camera's subscription: ``best_effort``, or ``reliable`` where pictures must get through
    a poor link; such a publisher's only."""
    return _keep_last(5, ReliabilityPolicy[reliability.upper()])


NEWEST_IN = _keep_last(1, ReliabilityPolicy.BEST_EFFORT)
"""Commands and states as they come in: only the newest counts; matches every publisher."""

EVERY_ONE_IN = _keep_last(200, ReliabilityPolicy.BEST_EFFORT)
"""Set-points as they go by: none is overwritten by the next; matches every publisher."""

STREAM_OUT = _keep_last(20, ReliabilityPolicy.RELIABLE)
"""Commands and states as they go out: matches every subscription; a recorder misses none."""

EVENT = _keep_last(10, ReliabilityPolicy.RELIABLE)
"""Instructions, stops, diagnostics: each one counts."""
