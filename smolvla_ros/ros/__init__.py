"""The edge to ROS: messages, QoS, parameters, diagnostics, and how a node runs."""
