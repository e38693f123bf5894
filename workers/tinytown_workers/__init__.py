"""Workers: claim tasks, run a coding CLI, ask people when it must, go home when idle."""
