"""One thin node a file: wiring only."""
