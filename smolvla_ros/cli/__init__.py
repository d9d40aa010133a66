"""The ``smolvla-ros`` command: one file a subcommand."""
