"""Open vision-language-action policies on robot arms under ROS 2, behind a safety monitor."""

__version__ = "0.1.0"
