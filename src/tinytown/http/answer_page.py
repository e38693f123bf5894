"""The page behind an answer link, as text: no script, nothing loaded, any phone (pure)."""

from __future__ import annotations

import base64
import hashlib
import html
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tinytown.models.question import OutcomeKind, Question, QuestionState

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1b1f;--soft:#5c5c66;--ground:#f6f6f8;--card:#fff;
--line:#d9d9e0;--main:#2456d6;--on-main:#fff;--warn:#9a3412;--warn-ground:#fff1e8}
@media (prefers-color-scheme:dark){:root{--ink:#ececf1;--soft:#a5a5b2;--ground:#121216;
--card:#1c1c22;--line:#3a3a45;--main:#8fb0ff;--on-main:#0c1a3d;--warn:#ffb38a;
--warn-ground:#3a2115}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:1.0625rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
-webkit-text-size-adjust:100%}
main{max-width:34rem;margin:0 auto;padding:1.25rem 1rem 3rem}
h1{font-size:1rem;font-weight:600;color:var(--soft);margin:0 0 .75rem}
p,h1,h2,button,dd{overflow-wrap:anywhere}
.question{font-size:1.375rem;line-height:1.35;font-weight:600;margin:0 0 1rem;
white-space:pre-wrap;unicode-bidi:plaintext}
.context{background:var(--card);border:1px solid var(--line);border-radius:.75rem;
padding:.75rem 1rem;margin:0 0 1rem;white-space:pre-wrap;unicode-bidi:plaintext;
max-height:18rem;overflow:auto}
.note{color:var(--soft);margin:1rem 0 0}
.risk{background:var(--warn-ground);color:var(--warn);border-radius:.75rem;
padding:.75rem 1rem;margin:0 0 1rem;font-weight:600}
form{margin:0 0 1rem}
button{display:block;width:100%;min-height:3.25rem;margin:0 0 .75rem;padding:.75rem 1rem;
font:inherit;font-weight:600;color:var(--on-main);background:var(--main);border:0;
border-radius:.75rem;cursor:pointer;white-space:pre-wrap;unicode-bidi:plaintext}
label{display:block;font-weight:600;margin:0 0 .5rem}
textarea{display:block;width:100%;min-height:6rem;padding:.75rem;margin:0 0 .75rem;font:inherit;
color:inherit;background:var(--card);border:1px solid var(--soft);border-radius:.75rem}
:focus-visible{outline:3px solid var(--main);outline-offset:3px}
.said{background:var(--card);border:2px solid var(--line);border-radius:.75rem;
padding:1rem;margin:0 0 1rem}
.said h2{font-size:1.125rem;margin:0 0 .25rem}
.said .answer{font-size:1.25rem;font-weight:600;margin:.25rem 0;white-space:pre-wrap;
unicode-bidi:plaintext}
.said p{margin:.25rem 0}
"""

_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    # The address is the capability: it must not travel to where a link in a text leads.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}

_JOINERS: Final = "\u200c\u200d"
"""Invisible, but letters of some scripts and emojis are made with them."""


def visible(text: str) -> str:
    """Make text harmless to look at: what hides or turns the writing direction is spelled out."""
    return html.escape("".join(_shown(c) for c in text))


def _shown(char: str) -> str:
    if char in "\n\t" or char in _JOINERS:
        return char
    if char == "\r":
        return ""
    if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return f"⟨U+{ord(char):04X}⟩"
    return char


def moment(text: str | None) -> str:
    """Write a stored time for a person: `22 Nov 2026, 21:03 UTC`."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%-d %b %Y, %H:%M UTC")


def question_page(
    question: Question, *, options: Sequence[tuple[int, str]], free_text: bool, news: str = ""
) -> str:
    """Write the page of an open question; `options` are (index, text)."""
    parts = [_head(question)]
    if news:
        parts.append(f'<p class="risk" role="alert">{visible(news)}</p>')
    if question.risk == "high":
        parts.append('<p class="risk">This cannot be undone easily. Read it twice.</p>')
    if question.context:
        parts.append(f'<p class="context" dir="auto" tabindex="0">{visible(question.context)}</p>')
    if options:
        buttons = "".join(
            f'<button name="choice" value="{index}" dir="auto">{visible(text)}</button>'
            for index, text in options
        )
        parts.append(f'<form method="post">{buttons}</form>')
    if free_text:
        label = "Another answer" if options else "Your answer"
        parts.append(
            f'<form method="post"><label for="answer">{label}</label>'
            '<textarea id="answer" name="answer" required maxlength="8192" dir="auto"></textarea>'
            "<button>Send</button></form>"
        )
    parts.append(f'<p class="note">{visible(_deadline(question))}</p>')
    return _page(question.text, "".join(parts))


def ended_page(question: Question, *, news: str = "") -> str:
    """Write what happened to a question that is over."""
    heading, answer, story = _outcome(question)
    said = f'<p class="answer" dir="auto">{visible(answer)}</p>' if answer else ""
    alert = f'<p class="risk" role="alert">{visible(news)}</p>' if news else ""
    body = (
        f"{_head(question)}{alert}"
        f'<section class="said" role="status"><h2>{heading}</h2>{said}'
        f"<p>{visible(story)}</p></section>"
        '<p class="note">You can close this page.</p>'
    )
    return _page(heading, body)


def plain_page(title: str, text: str) -> str:
    """Write a page that has nothing but a sentence."""
    body = (
        f'<section class="said" role="status"><h2>{visible(title)}</h2>'
        f"<p>{visible(text)}</p></section>"
    )
    return _page(title, body)


def _head(question: Question) -> str:
    title = visible(question.mission_title) or "A mission"
    return (
        f'<h1 dir="auto">{title}</h1>'
        f'<p class="question" dir="auto" role="heading" aria-level="2">{visible(question.text)}</p>'
    )


def _deadline(question: Question) -> str:
    silence = (
        f"without an answer, the agent goes on with: {question.default}"
        if question.default is not None
        else "without an answer, the agent is told that nobody answered"
    )
    if question.expires_at:
        return f"Until {moment(question.expires_at)}; {silence}."
    return "The agent waits for you."


def _outcome(question: Question) -> tuple[str, str, str]:
    """Say how a question ended: a heading, the answer if there is one, and who and when."""
    at = moment(question.answered_at)
    if question.state is QuestionState.ANSWERED:
        via = {"link": "with a link", "api": "with a key"}.get(
            question.answered_via or "", f"via {question.answered_via}"
        )
        story = f"By {question.answered_by}, {via}, {at}."
        return "Answered", question.answer or "", story
    if question.state is QuestionState.WITHDRAWN:
        return "No longer asked", "", f"The agent needs no answer any more since {at}."
    if question.outcome is OutcomeKind.DEFAULTED:
        story = f"Nobody answered until {at}, so the agent went on with this."
        return "Too late", question.answer or "", story
    return "Too late", "", f"Nobody answered until {at}; the agent was told so."


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{visible(title[:80])} · tinytown</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>"
    )
