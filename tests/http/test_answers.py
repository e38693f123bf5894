"""The answer link: looking changes nothing, one tap answers, and text stays text."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from html.parser import HTMLParser

import anyio
import httpx
import pytest

from halls import Hall
from tinytown import clock, ids
from tinytown.http.answer_page import visible
from tinytown.models.endpoint import NewEndpoint
from towns import ask, hand, start

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Page(HTMLParser):
    """What a browser finds in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.styles += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def buttons(self) -> list[tuple[str | None, str | None]]:
        return [
            (attributes.get("name"), attributes.get("value"))
            for tag, attributes in self.tags
            if tag == "button"
        ]


async def asked(hall: Hall, text: str = "Which colour?", **how: object) -> str:
    """Let an agent ask."""
    await start(hall.store, title="Paint the <shed>")
    claim = await (await hand(hall.store)).take()
    how.setdefault("options", ("Red", "Blue"))
    return (await ask(hall.store, claim, text, **how))[1]


def link(
    hall: Hall,
    question: str,
    choice: int | None = None,
    *,
    seconds: int = 60,
    to: str | None = None,
) -> str:
    """Make a link as the notifier does."""
    token = hall.town.links.make(
        question,
        expires_at=int(clock.unix_seconds()) + seconds,
        choice=choice,
        endpoint_id=to,
    )
    return f"/a/{token}"


@pytest.fixture
async def phone(hall: Hall) -> AsyncIterator[httpx.AsyncClient]:
    """Lend a browser: no key, and it wants pages."""
    async with hall.client(None, Accept="text/html,application/xhtml+xml,*/*;q=0.8") as browser:
        yield browser


async def test_the_page_shows_the_question_and_changes_nothing(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    question = await asked(hall, context="The old one peels.", deadline_seconds=3600)
    path = link(hall, question)
    for _ in range(3):
        reply = await phone.get(path)
        assert reply.status_code == 200
        assert (await phone.head(path)).status_code == 200
    page = Page(reply.text)
    for words in ("Paint the <shed>", "Which colour?", "The old one peels.", "Red", "Blue"):
        assert words in page.text
    assert "without an answer, the agent is told that nobody answered" in page.text
    assert page.buttons == [("choice", "0"), ("choice", "1")]
    assert (await hall.town.questions.read(question)).state == "open"


async def test_a_tap_answers_and_a_second_tap_is_fine(hall: Hall, phone: httpx.AsyncClient) -> None:
    endpoint = await hall.town.endpoints.add(
        NewEndpoint(url="ntfys://push.example/topic", name="Ada's phone")
    )
    question = await asked(hall)
    path = link(hall, question, to=endpoint.id)
    for _ in range(2):
        reply = await phone.post(path, content=b"choice=1", headers=FORM)
        assert reply.status_code == 200
        assert "Answered" in Page(reply.text).text
    found = await hall.town.questions.read(question)
    assert (found.answer, found.answered_by, found.answered_via) == ("Blue", "Ada's phone", "link")
    reply = await phone.get(path)
    page = Page(reply.text)
    assert reply.status_code == 200
    assert page.buttons == []
    assert "Blue" in page.text
    assert "By Ada's phone, with a link" in page.text


async def test_a_button_of_a_notification_answers_without_a_body(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    question = await asked(hall)
    yes, no = link(hall, question, 0), link(hall, question, 1)
    reply = await phone.post(yes)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["answer"] == "Red"
    assert (await phone.post(yes)).status_code == 200
    reply = await phone.post(no)
    assert reply.status_code == 409
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["answer"] == "Red"
    page = await phone.post(no, content=b"choice=1", headers=FORM)
    assert page.status_code == 409
    assert "Somebody was faster" in Page(page.text).text
    assert "Red" in Page(page.text).text


async def test_fifty_taps_at_once_have_one_winner(hall: Hall, phone: httpx.AsyncClient) -> None:
    options = tuple(f"option {n}" for n in range(20))
    question = await asked(hall, options=options)
    statuses: list[tuple[int, int]] = []

    async def tap(number: int) -> None:
        reply = await phone.post(link(hall, question, number % 20))
        statuses.append((number % 20, reply.status_code))

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(tap, number)
    found = await hall.town.questions.read(question)
    won = options.index(str(found.answer))
    for choice, status in statuses:
        assert status == (200 if choice == won else 409)


async def test_a_link_for_one_option_can_say_nothing_else(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    question = await asked(hall)
    path = link(hall, question, 0)
    assert Page((await phone.get(path)).text).buttons == [("choice", "0")]
    for body in (b"choice=1", b"answer=Blue", b"choice=7", b"choice=-1", b"choice=x"):
        reply = await phone.post(path, content=body, headers=FORM)
        assert reply.status_code == 400
    assert (await hall.town.questions.read(question)).state == "open"
    beyond = await phone.post(link(hall, question, 5))
    assert beyond.status_code == 400


async def test_free_text_is_written_on_the_page(hall: Hall, phone: httpx.AsyncClient) -> None:
    question = await asked(hall, options=(), kind="text")
    page = Page((await phone.get(link(hall, question))).text)
    (area,) = [attributes for tag, attributes in page.tags if tag == "textarea"]
    assert area["name"] == "answer"
    for body, status in ((b"", 400), (b"answer=", 400), (b"answer=+%0D%0A", 400)):
        reply = await phone.post(link(hall, question), content=body, headers=FORM)
        assert reply.status_code == status
    reply = await phone.post(
        link(hall, question), content=b"answer=two%0D%0Alines+%C3%A9", headers=FORM
    )
    assert reply.status_code == 200
    assert (await hall.town.questions.read(question)).answer == "two\nlines é"


async def test_options_and_free_text_together(hall: Hall, phone: httpx.AsyncClient) -> None:
    question = await asked(hall, free_text=True)
    page = Page((await phone.get(link(hall, question))).text)
    assert page.buttons == [("choice", "0"), ("choice", "1"), (None, None)]
    reply = await phone.post(link(hall, question), content=b"answer=Green", headers=FORM)
    assert reply.status_code == 200
    assert (await hall.town.questions.read(question)).answer == "Green"


async def test_an_approval_always_offers_both(hall: Hall, phone: httpx.AsyncClient) -> None:
    question = await asked(hall, kind="approval", options=(), risk="high")
    page = Page((await phone.get(link(hall, question))).text)
    assert page.buttons == [("choice", "0"), ("choice", "1")]
    assert "Read it twice" in page.text
    await phone.post(link(hall, question), content=b"choice=1", headers=FORM)
    assert (await hall.town.questions.read(question)).answer == "deny"


async def test_a_program_may_answer_with_json(hall: Hall, phone: httpx.AsyncClient) -> None:
    question = await asked(hall)
    headers = {"Accept": "application/json"}
    assert (await phone.get(link(hall, question), headers=headers)).json()["id"] == question
    reply = await phone.post(link(hall, question), json={"answer": "blue"}, headers=headers)
    assert reply.json()["answer"] == "Blue"
    for body in (b"{", b'{"answer": 1}', b'{"answer": "x", "y": 1}', b'{"answer": "\xff"}'):
        reply = await phone.post(
            link(hall, question),
            content=body,
            headers={**headers, "Content-Type": "application/json"},
        )
        assert reply.status_code == 400
        assert reply.headers["content-type"] == "application/problem+json"


async def test_a_tampered_link_is_no_link(hall: Hall, phone: httpx.AsyncClient) -> None:
    question = await asked(hall)
    good = link(hall, question, 0)

    def flip(place: int) -> str:
        letter = "A" if good[place] != "A" else "B"
        return good[:place] + letter + good[place + 1 :]

    for path in (
        flip(len(good) - 1),
        flip(20),
        flip(40),
        good[:-4],
        good + "AAAA",
        "/a/x",
        "/a/" + "é" * 76,
        "/a/" + "%00" * 76,
    ):
        for reply in (await phone.get(path), await phone.post(path), await phone.head(path)):
            assert reply.status_code == 404, path
        page = await phone.post(path, content=b"choice=0", headers=FORM)
        assert page.status_code == 404
        assert "Which colour?" not in page.text
    assert (await hall.town.questions.read(question)).state == "open"


async def test_an_expired_link_is_gone_and_answers_nothing(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    question = await asked(hall)
    path = link(hall, question, 0, seconds=0)
    for reply in (await phone.get(path), await phone.post(path), await phone.head(path)):
        assert reply.status_code == 410
    assert (await hall.town.questions.read(question)).state == "open"


async def test_a_link_of_a_removed_phone_is_gone(hall: Hall, phone: httpx.AsyncClient) -> None:
    endpoint = await hall.town.endpoints.add(NewEndpoint(url="ntfys://push.example/topic"))
    question = await asked(hall)
    path = link(hall, question, 0, to=endpoint.id)
    await hall.town.endpoints.remove(endpoint.id)
    assert (await phone.post(path)).status_code == 410
    assert (await phone.get(path)).status_code == 410
    assert (await hall.town.questions.read(question)).state == "open"


async def test_a_link_to_a_question_nobody_has_is_no_link(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    assert (await phone.get(link(hall, ids.new("question")))).status_code == 404


async def test_a_withdrawn_question_says_so(hall: Hall, phone: httpx.AsyncClient) -> None:
    question = await asked(hall)
    found = await hall.town.questions.read(question)
    await hall.store.missions.cancel(found.mission_id, by="test")
    reply = await phone.get(link(hall, question))
    assert reply.status_code == 200
    assert "No longer asked" in Page(reply.text).text
    assert (await phone.post(link(hall, question, 0))).status_code == 409
    page = await phone.post(link(hall, question), content=b"choice=0", headers=FORM)
    assert page.status_code == 409
    assert "No longer asked" in Page(page.text).text


async def test_a_default_that_was_taken_is_told(
    hall: Hall, phone: httpx.AsyncClient, eventually: Callable[..., Awaitable[None]]
) -> None:
    question = await asked(hall, default="Blue", deadline_seconds=0.05)

    async def over() -> bool:
        return (await hall.town.questions.read(question)).state == "expired"

    await eventually(over, "the deadline passes")
    page = Page((await phone.get(link(hall, question))).text)
    assert "Too late" in page.text
    assert "Blue" in page.text
    late = await phone.get(link(hall, question, seconds=0))
    assert late.status_code == 410
    assert "the agent went on with this" in Page(late.text).text


async def test_an_agents_text_is_text_and_nothing_else(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e'\"&amp;\u0000\u0007"
    question = await asked(hall, evil, context=evil, options=(evil, "No"), default="<b>x</b>")
    reply = await phone.get(link(hall, question))
    page = Page(reply.text)
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "p", "form", "button",
    }  # fmt: skip
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<script>alert(1)</script>" in page.text
    assert "\u202e" not in reply.text
    assert "⟨U+202E⟩" in page.text
    assert "\x00" not in reply.text
    assert "\x07" not in reply.text


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert visible("a\u202eb") == "a⟨U+202E⟩b"
    assert visible("\U000e0041") == "⟨U+E0041⟩", "tags can carry a whole hidden text"
    assert visible("family \U0001f468\u200d\U0001f469") == "family \U0001f468\u200d\U0001f469"
    assert visible("one\r\ntwo\tthree") == "one\ntwo\tthree"
    assert visible("<&\"'>") == html.escape("<&\"'>")


async def test_the_page_is_locked_down_and_loads_nothing(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    question = await asked(hall)
    for reply in (
        await phone.get(link(hall, question)),
        await phone.get("/a/x"),
        await phone.post(link(hall, question, 0)),
        await phone.post(link(hall, question, 1)),
        await phone.head(link(hall, question)),
    ):
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in reply.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", policy["style-src"])
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cross-origin-opener-policy"] == "same-origin"
        assert "noindex" in reply.headers["x-robots-tag"]
        assert "set-cookie" not in reply.headers
        assert "src=" not in reply.text
        assert "url(" not in reply.text


async def test_the_page_suits_small_screens_and_screen_readers(
    hall: Hall, phone: httpx.AsyncClient
) -> None:
    question = await asked(hall, free_text=True)
    text = (await phone.get(link(hall, question))).text
    page = Page(text)
    attributes = dict(page.tags)
    assert attributes["html"]["lang"] == "en"
    assert ("name", "viewport") in [
        pair for tag, found in page.tags if tag == "meta" for pair in found.items()
    ]
    assert "min-height:3.25rem" in page.styles, "52 px: a thumb needs 44"
    assert "prefers-color-scheme:dark" in page.styles
    (label,) = [found for tag, found in page.tags if tag == "label"]
    (area,) = [found for tag, found in page.tags if tag == "textarea"]
    assert label["for"] == area["id"]
    assert len(text) < 8_000


async def test_a_form_of_another_kind_is_refused(hall: Hall, phone: httpx.AsyncClient) -> None:
    question = await asked(hall)
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/xml"):
        reply = await phone.post(
            link(hall, question), content=b"choice=0", headers={"Content-Type": kind}
        )
        assert reply.status_code == 415
    assert (await hall.town.questions.read(question)).state == "open"
