"""tinytown: start a mission from your laptop, close it, answer from the lock screen."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
