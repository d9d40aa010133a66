"""For every test, and for every process that a test starts."""

import os

# Nothing here comes from the hub; what would ask it must fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"
