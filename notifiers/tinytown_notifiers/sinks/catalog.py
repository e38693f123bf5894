"""Which of Apprise's services an endpoint may name, where each lives, and with which parameters.

A push URL is privileged input: Apprise reads local files for some (`?template=`, `?keyfile=`),
runs desktop commands for others, and lets a URL switch off certificate checks or its time limits.
So both lists are allow-lists. Leaving out means safe; adding a line here is a review.

The module of each service is written down so that one import loads one plugin (34 MiB resident)
where asking Apprise for a schema loads all 183 of them (53 MiB).
"""

from __future__ import annotations

from typing import Final

import msgspec


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One of Apprise's plugins."""

    module: str
    """Below `apprise.plugins`."""
    hosted: bool
    """Whether the URL's host is a server of the user's (shown) and not a token (masked)."""
    free_headers: bool = False
    """Whether `+header=`, `-parameter=` and `:field=` may be given."""


# Services with one fixed address: everything after the schema is a secret.
_FIXED: Final = {
    # Phones.
    "chanify": "chanify",
    "join": "join",
    "notifiarr": "notifiarr",
    "onesignal": "one_signal",
    "pbul": "pushbullet",
    "pover": "pushover",
    "prowl": "prowl",
    "psafer": "pushsafer",
    "psafers": "pushsafer",
    "push": "techuluspush",
    "pushme": "pushme",
    "pushplus": "pushplus",
    "pushy": "pushy",
    "schan": "serverchan",
    "simplepush": "simplepush",
    "spush": "simplepush",
    "wxpusher": "wxpusher",
    # Chats.
    "dingtalk": "dingtalk",
    "discord": "discord",
    "feishu": "feishu",
    "flock": "flock",
    "gchat": "google_chat",
    "lark": "lark",
    "line": "line",
    "ryver": "ryver",
    "slack": "slack",
    "stackfield": "stackfield",
    "tgram": "telegram",
    "threema": "threema",
    "twist": "twist",
    "webex": "webexteams",
    "wecombot": "wecombot",
    "wxteams": "webexteams",
    "zulip": "zulip",
    # Text messages.
    "46elks": "fortysixelks",
    "clicksend": "clicksend",
    "d7sms": "d7networks",
    "freemobile": "freemobile",
    "msgbird": "messagebird",
    "nexmo": "vonage",
    "plivo": "plivo",
    "seven": "seven",
    "sinch": "sinch",
    "twilio": "twilio",
    "vonage": "vonage",
    # Mail by API.
    "brevo": "brevo",
    "postmark": "postmark",
    "resend": "resend",
    "sendgrid": "sendgrid",
    # On call and automation.
    "ifttt": "ifttt",
    "opsgenie": "opsgenie",
    "pagerduty": "pagerduty",
    "pagertree": "pagertree",
    "signl4": "signl4",
    "spike": "spike",
    "splunk": "splunk",
    "squadcast": "squadcast",
    "victorops": "splunk",
}

# Services on a server that the URL names.
_HOSTED: Final = {
    "bark": "bark",
    "barks": "bark",
    "goalert": "goalert",
    "goalerts": "goalert",
    "gotify": "gotify",
    "gotifys": "gotify",
    "hassio": "home_assistant",
    "hassios": "home_assistant",
    "mailto": "email",
    "mailtos": "email",
    "matrix": "matrix",
    "matrixs": "matrix",
    "mmost": "mattermost",
    "mmosts": "mattermost",
    "nctalk": "nextcloudtalk",
    "nctalks": "nextcloudtalk",
    "ntfy": "ntfy",
    "ntfys": "ntfy",
    "pushdeer": "pushdeer",
    "pushdeers": "pushdeer",
    "rocket": "rocketchat",
    "rockets": "rocketchat",
    "signal": "signal_api",
    "signals": "signal_api",
    "synology": "synology",
    "synologys": "synology",
    "workflow": "workflows",
    "workflows": "workflows",
}

# A request of the user's own making.
_CUSTOM: Final = {
    "form": "custom_form",
    "forms": "custom_form",
    "json": "custom_json",
    "jsons": "custom_json",
    "xml": "custom_xml",
    "xmls": "custom_xml",
}

SERVICES: Final[dict[str, Service]] = {
    **{schema: Service(module=module, hosted=False) for schema, module in _FIXED.items()},
    **{schema: Service(module=module, hosted=True) for schema, module in _HOSTED.items()},
    **{
        schema: Service(module=module, hosted=True, free_headers=True)
        for schema, module in _CUSTOM.items()
    },
}
"""Schema to service."""

PARAMETERS: Final = frozenset(
    {
        # Who: recipients, senders, accounts and their credentials.
        *("to", "from", "name", "user", "pass", "token", "key", "apikey", "secret", "auth"),
        *("cc", "bcc", "reply", "smtp", "sid", "id", "oauth_id", "gwid", "workspace", "team"),
        *("channel", "channels", "botname", "thread", "topic", "group", "region", "source"),
        # How: what the phone does with it.
        *("priority", "sound", "level", "volume", "category", "badge", "vibration", "silent"),
        *("preview", "expire", "interval", "ttl", "call", "xtags", "tags", "severity", "color"),
        *("copy", "archive", "nid", "batch", "mdv", "ping", "tts", "unicode"),
        # Which dialect.
        *("mode", "method", "version", "api-version", "path", "sig", "routeid", "route", "ver"),
        *("pa", "powerautomate", "url_prefix", "webhook", "type", "msgtype", "dedup", "entity"),
    }
)
"""Parameters that do nothing worse than what their service is for."""
