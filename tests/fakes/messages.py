"""What the notifier's tests call a message."""

from __future__ import annotations

from collections.abc import Callable

from tinytown_notifiers.sinks import Message

MakeMessage = Callable[..., Message]
