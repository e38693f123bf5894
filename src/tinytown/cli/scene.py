"""What a watcher knows of a mission: its events and its log go in, a picture comes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tinytown.cli.render import STYLES
from tinytown.cli.text import clip, lasting, legible, plain, until
from tinytown.cli.wire import LogLine
from tinytown.models.event import Event
from tinytown.models.mission import ENDED, Mission
from tinytown.models.question import Question
from tinytown.models.task import Task

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

_KEPT: Final = 200  # lines: more than the tallest terminal shows
_MARKS: Final = {
    "pending": "·",
    "queued": "○",
    "running": "●",
    "blocked": "?",
    "completed": "✓",
    "failed": "✗",
    "dead": "✗",
    "canceled": "-",
}
_BAR: Final = 20  # cells of a progress bar


class Scene:
    """One mission as somebody watches it."""

    def __init__(self, mission: Mission) -> None:
        """Begin with what is known now."""
        self.mission = mission
        self.log: deque[str] = deque(maxlen=_KEPT)
        self.progress: dict[str, tuple[str, float | None]] = {}
        """By task: what its agent last said of its progress, and how far it is in percent."""
        self.note = ""
        """The last thing to tell the watcher himself."""
        self.typed = ""
        self.connected = True

    @property
    def ended(self) -> bool:
        """Whether the mission is over."""
        return self.mission.state in ENDED

    def hear(self, event: Event) -> None:
        """Take an event of the mission."""
        if event.type == "task.progressed" and event.task_id and event.data.get("text"):
            percent = event.data.get("percent")
            known = float(percent) if isinstance(percent, int | float) else None
            self.progress[event.task_id] = (plain(str(event.data["text"])), known)
        if event.type == "question.answered":
            who = f"{event.data.get('answered_by')} ({event.data.get('answered_via')})"
            self.note = plain(f"{who} answered: {event.data.get('answer')}")

    def read(self, line: LogLine) -> None:
        """Take a line of the log."""
        self.log.extend(each for each in legible(line.words).splitlines() if each.strip())

    def picture(self, now: datetime, *, width: int, height: int) -> Group:
        """Draw it to fit a terminal of so many cells."""
        from rich.console import Group
        from rich.text import Text

        top = [*self._head(now), *self._tasks()]
        bottom = [*self._question(now), *self._foot()]
        room = max(3, height - len(top) - len(bottom) - 3)
        middle = [Text(clip(line, width), style="dim") for line in list(self.log)[-room:]]
        gap = [Text("")]
        parts = [*top, *gap, *middle, *(gap if middle and bottom else []), *bottom]
        for part in parts:
            part.truncate(max(10, width), overflow="ellipsis")
        return Group(*parts)

    def _head(self, now: datetime) -> Iterator[Text]:
        from rich.text import Text

        state = self.mission.state.value
        begun = self.mission.started_at or self.mission.created_at
        ended = self.mission.finished_at
        until_then = datetime.fromisoformat(ended) if ended else now
        seconds = max(0.0, (until_then - datetime.fromisoformat(begun)).total_seconds())
        yield Text.assemble(
            (plain(self.mission.title), "bold"),
            "  ",
            (state, STYLES.get(state, "")),
            (f"  {lasting(seconds)}", "dim"),
            ("" if self.connected else "  the town does not answer; waiting for it", "yellow"),
        )
        yield Text(self.mission.id, style="dim")

    def _tasks(self) -> Iterator[Text]:
        from rich.text import Text

        for task in self.mission.tasks:
            state = task.state.value
            yield Text.assemble(
                (f" {_MARKS.get(state, '·')} ", STYLES.get(state, "")),
                f"{task.name}  ",
                (state, STYLES.get(state, "")),
                (self._about(task), "dim"),
            )

    def _about(self, task: Task) -> str:
        attempt = f"  attempt {task.attempt}" if task.attempt > 1 else ""
        if task.state in {"running", "blocked"} and task.id in self.progress:
            text, percent = self.progress[task.id]
            return f"{attempt}  {bar(percent)}{text}"
        return f"{attempt}  {plain(task.reason or '')}".rstrip()

    def _question(self, now: datetime) -> Iterator[Text]:
        from rich.text import Text

        asked = self.mission.question
        if asked is None or self.ended:
            return
        left = until(asked.expires_at, now)
        yield Text.assemble(
            (" ? ", "bold yellow"),
            (plain(asked.text), "bold"),
            (f"  risk {asked.risk}" if asked.risk != "low" else "", "red"),
            (f"  expires {left}" if left else "", "dim"),
        )
        if asked.context:
            yield Text(f"   {plain(asked.context)}", style="dim")
        for number, option in enumerate(asked.options, start=1):
            default = "  (default)" if option == asked.default else ""
            yield Text.assemble((f"   {number}  ", "yellow"), plain(option), (default, "dim"))
        hint = "a number" if asked.options else "your answer"
        if asked.options and asked.free_text:
            hint = "a number or your own answer"
        shown = (self.typed, "") if self.typed else (f"type {hint}, then Enter", "dim")
        yield Text.assemble((" > ", "bold yellow"), shown, ("▏" if self.typed else "", ""))

    def _foot(self) -> Iterator[Text]:
        from rich.text import Text

        if self.note:
            yield Text(f" {self.note}", style="cyan")


def bar(percent: float | None) -> str:
    """Draw how far something is; nothing where nobody knows."""
    if percent is None:
        return ""
    done = round(min(100.0, max(0.0, percent)) / 100 * _BAR)
    return f"{'█' * done}{'░' * (_BAR - done)} {percent:.0f}%  "


def chosen(question: Question, typed: str) -> str:
    """Turn what was typed into an answer: the number of an option is that option."""
    text = typed.strip()
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(question.options):
        return question.options[int(text) - 1]
    return text


def last_words(mission: Mission) -> str:
    """Say in one line how a mission ended."""
    said = mission.reason or (mission.result.summary if mission.result else "")
    first = plain(said.strip().splitlines()[0]) if said.strip() else ""
    return f"{mission.id} {mission.state.value}{': ' if first else ''}{first}"
