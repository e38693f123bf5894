"""Other engines on the same machine: each runs in an environment of its own, by its own client."""
