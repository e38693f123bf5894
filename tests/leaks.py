"""Finds keys that would stay in Redis for ever without a reason."""

from __future__ import annotations

from typing import Any

from redis import Redis

from tinytown.models.mission import ENDED
from tinytown.store.keys import Keyring


def key_leaks(client: Redis) -> list[str]:
    """List keys that `keys.py` does not know, or that have no end although they should."""
    leaks = []
    # Sorted by name only so that a failure reads the same every time.
    names: list[str] = sorted(client.scan_iter("tt:{*", count=1000))
    pipe = client.pipeline(transaction=False)
    for key in names:
        pipe.pttl(key)
    for key, left_ms in zip(names, pipe.execute(), strict=True):
        keys = Keyring(key[4:].partition("}")[0])
        family = keys.family(key)
        endless = left_ms == -1
        if family is None:
            leaks.append(f"{key} is not in keys.py")
        elif family.life == "expires" and endless:
            leaks.append(f"{key} has no end")
        elif family.name == "mission" and client.hget(key, "state") in ENDED:
            leaks.extend(_endless_of_mission(client, keys, key.rpartition(":")[2]))
    return leaks


def _endless_of_mission(client: Redis, keys: Keyring, mission: str) -> list[str]:
    """List what a finished mission would leave behind for ever."""
    of_mission = ["mission", "mission_tasks", "mission_events", "mission_log"]
    of_mission += ["mission_messages", "mission_questions"]
    names = [keys(name, mission) for name in of_mission]
    tasks: Any = client.zrange(keys("mission_tasks", mission), 0, -1)
    names += [keys(name, task) for task in tasks for name in ("task", "task_patch", "task_asked")]
    questions: Any = client.zrange(keys("mission_questions", mission), 0, -1)
    names += [keys("question", question) for question in questions]
    return [f"{name} outlives its mission" for name in names if client.pttl(name) == -1]
