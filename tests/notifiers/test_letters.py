"""The bodies of webhooks: what each format promises its readers, whatever an agent wrote."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from tinytown import ids
from tinytown.links import AnswerLinks
from tinytown.models.catalogue import CATALOGUE, example
from tinytown.models.endpoint import Format, Payload
from tinytown.models.event import TYPES, Event
from tinytown_notifiers.letters import BYTES, link_to, write
from tinytown_notifiers.wording import Writer

LINKS = AnswerLinks(town="main", keys=["a secret long enough to sign with"])
PUBLIC = "https://town.example"
WRITER = Writer(public_url=PUBLIC, links=LINKS)
ENDPOINT = ids.new("endpoint")
FORMATS: tuple[Format, ...] = get_args(Format)
PAYLOADS: tuple[Payload, ...] = get_args(Payload)
MENTIONS = "<!channel> <@U123> @everyone @here <@&42> <#C1> <t:1:R> <:x:1>"

# JSON as the town stores it: no NaN, whole numbers of 53 bits, any text that is UTF-8.
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=12,
)
texts = st.text(max_size=9_000)
formats = st.sampled_from(FORMATS)
payloads = st.sampled_from(PAYLOADS)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Draw an event of the closed set that says what it should, more, or nothing of it."""
    event = example(draw(st.sampled_from(TYPES)))
    data: dict[str, Any] = {**event.data, **draw(st.dictionaries(st.text(), values, max_size=4))}
    for name in data:
        if draw(st.booleans()):
            data[name] = draw(texts | values)
    return told(event, data=data)


def told(event: Event, **changes: Any) -> Event:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return Event(**{**fields, **changes})


def body(event: Event, form: Format, payload: Payload = "full") -> bytes:
    made, kind = write(
        event,
        format=form,
        payload=payload,
        link=link_to(PUBLIC, event),
        writer=WRITER,
        endpoint_id=ENDPOINT,
    )
    cloud = form == "cloudevents"
    assert kind == ("application/cloudevents+json" if cloud else "application/json")
    return made


def letter(event: Event, form: Format, payload: Payload = "full") -> dict[str, Any]:
    read: dict[str, Any] = json.loads(body(event, form, payload))
    return read


def ask(**data: Any) -> Event:
    asked = example("question.asked")
    question = ids.new("question")
    return told(asked, data={**asked.data, "question_id": question, **data})


# For all of them ---------------------------------------------------------------------------------


@given(events(), formats, payloads)
def test_no_event_makes_a_body_that_is_too_large_or_changes(
    event: Event, form: Format, payload: Payload
) -> None:
    once = body(event, form, payload)
    again = told(event, data=json.loads(json.dumps(event.data)))
    backwards = told(event, data=dict(reversed(event.data.items())))

    assert len(once) <= BYTES
    assert body(again, form, payload) == once
    assert body(backwards, form, payload) == once


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_body_of_64_kib_is_enough_for_an_event_of_a_megabyte(kind: str, form: Format) -> None:
    event = example(kind)
    huge = told(event, data={**event.data, "text": "…" * 300_000, "question_id": "x" * 300_000})
    made = body(huge, form)

    assert len(made) <= BYTES
    if form not in {"slack", "discord"}:
        assert json.loads(made)["truncated"] is True
        assert PUBLIC in made.decode()


@pytest.mark.parametrize("size", [BYTES - 300, BYTES])
def test_what_just_fits_is_whole(size: int) -> None:
    event = told(example("task.progressed"), data={"name": "x" * (size - 250)})
    made = letter(event, "standard")

    assert ("truncated" in made) == (made["data"] == {})


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_ping_which_is_no_type_of_the_closed_set_has_a_body_too(
    form: Format, payload: Payload
) -> None:
    ping = Event(
        id=ids.new("event"),
        type="ping",
        timestamp="2026-11-22T21:00:00.000Z",
        town="main",
        data={"endpoint_id": ENDPOINT},
    )
    shown = body(ping, form, payload).decode()

    assert ENDPOINT in shown or "Ping" in shown


# Standard, raw, thin -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_standard_is_the_event_itself_and_raw_its_data(kind: str) -> None:
    event = example(kind)
    made = letter(event, "standard")

    assert list(made) == ["data", "id", "mission_id", "task_id", "timestamp", "town", "type"]
    assert Event(**made) == event
    assert letter(event, "raw") == event.data


def test_a_thin_body_has_names_and_a_link_and_no_words() -> None:
    event = ask(text="Shall I email the customers?", options=["Send", "Wait"])
    question = event.data["question_id"]
    link = f"{PUBLIC}/v1/questions/{question}"

    assert letter(event, "standard", "thin") == {
        "id": event.id,
        "type": "question.asked",
        "timestamp": event.timestamp,
        "town": "main",
        "mission_id": event.mission_id,
        "task_id": event.task_id,
        "data": {"question_id": question},
        "link": link,
    }
    assert letter(event, "raw", "thin") == {
        "mission_id": event.mission_id,
        "task_id": event.task_id,
        "question_id": question,
        "link": link,
    }
    for form in FORMATS:
        made = body(event, form, "thin").decode()
        assert "customers" not in made
        assert "Tidy" not in made
        assert "Wait" not in made


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("mission.completed", "missions/{0.mission_id}"),
        ("task.failed", "missions/{0.mission_id}"),
        ("question.answered", "questions/{0.data[question_id]}"),
        ("worker.lost", "workers"),
        ("endpoint.failing", "endpoints"),
        ("delivery.dead", "endpoints"),
        ("source.rejected", "sources"),
    ],
)
def test_a_link_leads_to_what_the_event_is_about(kind: str, path: str) -> None:
    event = example(kind)

    assert link_to(f"{PUBLIC}/", event) == f"{PUBLIC}/v1/{path.format(event)}"
    assert link_to(None, event) is None


# CloudEvents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kind", TYPES)
def test_the_cloudevents_sdk_reads_what_we_send(kind: str, payload: Payload) -> None:
    event = example(kind)
    made = body(event, "cloudevents", payload)
    headers = {"content-type": "application/cloudevents+json"}
    read = from_http(HTTPMessage(headers=headers, body=made), JSONFormat())

    assert isinstance(read, CloudEvent)
    assert (read.get_id(), read.get_type(), read.get_specversion()) == (event.id, kind, "1.0")
    assert read.get_source() == "urn:tinytown:main"
    assert read.get_extension("missionid") == event.mission_id
    moment = read.get_time()
    assert moment is not None
    assert moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") == event.timestamp
    if payload == "full":
        assert read.get_data() == event.data
    else:
        assert read.get_extension("dataref") == link_to(PUBLIC, event)


# Slack -------------------------------------------------------------------------------------------


def test_a_question_in_slack_has_a_button_per_option_that_answers() -> None:
    event = ask(options=["Drop it", "Keep it"], free_text=True, risk="medium")
    made = letter(event, "slack")
    header, section, actions, _context = made["blocks"]

    assert header["text"]["text"] == "Tidy the database"
    assert "Drop the table old_orders?" in section["text"]["text"]
    assert [button["text"]["text"] for button in actions["elements"]] == [
        "Drop it",
        "Keep it",
        "Other answer",
    ]
    assert actions["block_id"] == f"question:{event.data['question_id']}"
    for choice, button in zip((0, 1, None), actions["elements"], strict=True):
        link = LINKS.verify(button["value"], now=0)
        assert (link.question_id, link.choice) == (event.data["question_id"], choice)
        assert link.endpoint_id == ENDPOINT
        assert button["url"] == f"{PUBLIC}/a/{button['value']}"


@pytest.mark.parametrize(
    "data",
    [
        {"options": [str(number) for number in range(6)]},
        {"options": ["delete", "keep"], "risk": "high"},
        {"options": ["x" * 90 + "1", "x" * 90 + "2"]},
        {"options": ["\u202e", "b"]},
        {"options": []},
    ],
    ids=["six options", "high risk", "same when shortened", "nothing to see", "free text"],
)
def test_what_cannot_be_a_safe_button_goes_through_the_page(data: dict[str, Any]) -> None:
    [actions] = [block for block in letter(ask(**data), "slack")["blocks"] if "elements" in block][
        :1
    ]
    [button] = actions["elements"]

    assert button["text"]["text"] == "Answer"
    assert LINKS.verify(button["value"], now=0).choice is None


def walk(found: object) -> list[dict[str, Any]]:
    """List every object inside a JSON value."""
    if isinstance(found, list):
        return [each for inner in found for each in walk(inner)]
    if isinstance(found, dict):
        return [found, *(each for inner in found.values() for each in walk(inner))]
    return []


@given(events(), payloads)
def test_slack_finds_nothing_too_long_and_nothing_to_interpret(
    event: Event, payload: Payload
) -> None:
    made = letter(event, "slack", payload)

    assert 1 <= len(made["blocks"]) <= 50
    assert made["mrkdwn"] is False
    assert 0 < len(made["text"]) <= 3_000
    for block in made["blocks"]:
        # The SDK's own classes know Slack's limits: header 150, section 3000, actions 25, …
        parsed = Block.parse(block)
        assert parsed is not None
        parsed.validate_json()
        assert len(block.get("elements", ())) <= 5
    for text in [each for each in walk(made["blocks"]) if each.get("type") == "plain_text"]:
        assert 0 < len(text["text"]) <= 3_000
        assert text["emoji"] is False
    for button in [each for each in walk(made["blocks"]) if each.get("type") == "button"]:
        assert len(button["text"]["text"]) <= 75
        assert len(button.get("value", "")) <= 2_000
        assert len(button["url"]) <= 3_000
    shown = [made["text"], *(text["text"] for text in walk(made) if "emoji" in text)]
    for text in shown:
        assert not re.search(
            r"[<>]|&(?!amp;|lt;|gt;)|@(everyone|here|channel)", text, re.IGNORECASE
        )
    # No kind of text but plain: nothing is Markdown.
    assert "mrkdwn" not in {each.get("type") for each in walk(made)}


# Discord -----------------------------------------------------------------------------------------


def test_a_question_in_discord_has_a_link_per_option() -> None:
    event = ask(options=["Drop it", "Keep it"])
    made = letter(event, "discord")
    [embed] = made["embeds"]

    assert made["content"] == "Tidy the database"
    assert made["allowed_mentions"] == {"parse": []}
    assert "Drop the table old\\_orders?" in embed["description"]
    assert [field["name"] for field in embed["fields"]] == ["Drop it", "Keep it"]
    for choice, field in enumerate(embed["fields"]):
        token = field["value"].removeprefix(f"[Answer]({PUBLIC}/a/").removesuffix(")")
        assert LINKS.verify(token, now=0).choice == choice


@given(events(), payloads)
def test_discord_finds_nothing_too_long_and_nothing_to_interpret(
    event: Event, payload: Payload
) -> None:
    made = letter(event, "discord", payload)
    [embed] = made["embeds"]

    assert 0 < len(made["content"]) <= 2_000
    assert len(embed["title"]) <= 256
    assert len(embed.get("description", "")) <= 4_096
    assert len(embed.get("fields", ())) <= 25
    counted = [embed["title"], embed.get("description", ""), embed["footer"]["text"]]
    for field in embed.get("fields", ()):
        assert 0 < len(field["name"]) <= 256
        assert 0 < len(field["value"]) <= 1_024
        counted += [field["name"], field["value"]]
    assert sum(map(len, counted)) <= 6_000
    assert made["allowed_mentions"] == {"parse": []}
    names = [field["name"] for field in embed.get("fields", ())]
    for text in (made["content"], embed.get("description", ""), *names):
        bare = re.sub(r"\\[\\*_~`|\[\]()<>#:@!-]", "", text)
        assert not re.search(r"[\\*_~`|\[\]()<>#:@]", bare), text


@pytest.mark.parametrize("form", ["slack", "discord"])
def test_an_agent_cannot_call_hide_or_disguise(form: Format) -> None:
    event = ask(
        text=f"{MENTIONS} \u202eteled\u202c \x1b[31m**bold** [free](https://evil.example)",
        title=f"{MENTIONS}\x07",
        options=[f"{MENTIONS[:20]} yes", "no"],
        context="@everyone <!here>",
    )
    made = body(event, form).decode()
    shown = json.dumps(json.loads(made), ensure_ascii=False)

    for forbidden in (
        "<!",
        "<@",
        "<#",
        "<t:",
        "@everyone",
        "@here",
        "\u202e",
        "\\u001b",
        "\\u0007",
    ):
        assert forbidden not in shown
    assert "https://evil" not in shown if form == "discord" else "<https" not in shown


@pytest.mark.parametrize("form", ["slack", "discord"])
def test_a_finished_mission_shows_what_it_left_and_where(form: Format) -> None:
    shown = body(example("mission.completed"), form).decode()

    assert "Done" in shown
    assert "Dropped 3 unused tables" in shown
    assert "4 files changed" in shown
    assert f"{PUBLIC}/?mission=" in shown


@pytest.mark.parametrize("form", ["slack", "discord"])
@pytest.mark.parametrize("kind", TYPES)
def test_without_a_public_address_a_chat_has_words_and_no_links(kind: str, form: Format) -> None:
    made, _ = write(
        example(kind),
        format=form,
        payload="full",
        link=None,
        writer=Writer(public_url=None, links=LINKS),
        endpoint_id=ENDPOINT,
    )

    assert b"http" not in made
    assert CATALOGUE[kind].example
    assert len(json.loads(made)) >= 3
