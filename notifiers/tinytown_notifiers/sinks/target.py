"""An endpoint's Apprise URL: taken apart, checked against the catalog, shown without secrets."""

from __future__ import annotations

import importlib
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from tinytown.errors import Invalid
from tinytown.redact import MASK, redact
from tinytown_notifiers.sinks.catalog import PARAMETERS, SERVICES, Service

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

_SCHEMA: Final = re.compile(r"^([a-z0-9]{2,12})://", re.IGNORECASE)
_URL_BYTES: Final = 4_096
_SECRET_LENGTH: Final = 4
"""Shorter pieces (`/1/`, `me`) are no secrets, and masking them would make errors unreadable."""
_ALIASES: Final = {"xtags": ("xtags", "tags"), "supplemental_url": ("url",)}
"""Arguments of plugins that have other names in URLs."""
_loading: Final = threading.Lock()


class Target:
    """One endpoint's address, ready to make a plugin for each message."""

    def __init__(self, url: str, courier: Any) -> None:
        """Parse and check; loads the plugin's module, so call it off the event loop.

        Raises Invalid with a sentence that names no secret.
        """
        self.schema, self.service = service_of(url)
        self.secrets = tuple(sorted(set(_pieces(url)), key=len, reverse=True))
        self.plugin = _load(self.schema, self.service, courier)
        self._parsed = self._parse(url)
        self._said = {name.lower() for name in self._parsed.get("qsd", {})}
        self.speaks_http = _speaks_http(self.plugin)
        plugin = self.build({})
        self._check_targets(plugin)
        self.host = self._server(plugin)
        """The server that the URL names; None where the service knows its own."""

    def build(self, parameters: dict[str, Any]) -> NotifyBase:
        """Make the plugin for one message, as Apprise.instantiate does with a dictionary.

        What the endpoint's owner wrote into the URL wins over what we would choose.
        """
        forced = {"verify": True, "redirect": False, "overflow": "truncate", "retry": 0}
        ours = {
            name: value
            for name, value in parameters.items()
            if not self._said.intersection(_ALIASES.get(name, (name,)))
        }
        try:
            return self.plugin(**{**self._parsed, **ours, **forced, "asset": _asset()})
        except Exception as error:  # noqa: BLE001 - plugins raise what they like
            detail = f"{self.schema}: {self.redact(str(error)) or type(error).__name__}"
            raise Invalid(detail) from None  # the cause would carry the URL

    def _server(self, plugin: Any) -> str | None:
        if not self.service.hosted or getattr(plugin, "mode", None) == "cloud":
            return None
        host = getattr(plugin, "smtp_host", None) or plugin.host
        return host or None

    def redact(self, text: str) -> str:
        """Mask this target's pieces, and everything else that looks like a secret."""
        return redact(text, self.secrets)

    def _parse(self, url: str) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] | None = self.plugin.parse_url(url)
        except Exception:  # noqa: BLE001 - a parser that stumbles has not understood the URL
            parsed = None
        if not parsed:
            raise Invalid(f"this is no {self.schema}:// URL that Apprise understands")
        self._check_parameters(parsed)
        for name in [name for name in parsed if name.startswith("qsd") and len(name) > 3]:
            if not self.service.free_headers:
                del parsed[name]
        if self.schema in {"ntfy", "ntfys"}:
            # The icon would make every phone fetch a picture from a third party.
            parsed["include_image"] = False
        return parsed

    def _check_targets(self, plugin: Any) -> None:
        """Refuse what Apprise would accept and then send to nobody, to many, or without a login."""
        if self.schema in {"ntfy", "ntfys"}:
            if not plugin.topics or len(plugin.topics) != len(self._parsed.get("targets", ())):
                raise Invalid(
                    "an ntfy URL needs a topic of letters, digits, - and _: ntfys://host/topic"
                )
            if plugin.mode == "cloud" and (plugin.user or plugin.token):
                raise Invalid("to log in, name the server too: ntfys://tk_…@ntfy.sh/topic")
        if len(plugin) > 1:
            # Half of them may have got it when one fails, and a retry would tell them again.
            raise Invalid("one target per endpoint, please: add an endpoint for each")

    def _check_parameters(self, parsed: dict[str, Any]) -> None:
        """Look at what Apprise itself read from the URL, so that no other reading can differ."""
        for name in parsed.get("qsd", {}):
            key = name.lower()
            if key[:1] in {"+", "-", ":"} and self.service.free_headers:
                continue
            if key not in PARAMETERS:
                raise Invalid(f"{self.schema}:// may not carry the parameter {redact(key[:40])!r}")


def service_of(url: str) -> tuple[str, Service]:
    """Find the service a URL names; raises Invalid for one that is unknown or not allowed."""
    if len(url.encode(errors="replace")) > _URL_BYTES:
        raise Invalid(f"a push URL has at most {_URL_BYTES} bytes")
    if not url.isprintable() or any(letter.isspace() for letter in url):
        raise Invalid("a push URL has no blanks or control characters in it")
    found = _SCHEMA.match(url)
    schema = found.group(1).lower() if found else ""
    service = SERVICES.get(schema)
    if service is None:
        shown = f"{schema}://" if schema else "this"
        hint = "; or is it a webhook? kind: webhook" if schema in {"http", "https"} else ""
        raise Invalid(f"{shown} is no service a push can go through here{hint}")
    return schema, service


def redacted_url(url: str) -> str:
    """Show where a URL leads without what opens it: `ntfys://push.example.com/•••`.

    Never raises; loads no plugin. Hosts are shown only where they are servers, not tokens.
    """
    found = _SCHEMA.match(url)
    if not found:
        return MASK
    schema = found.group(1).lower()
    service = SERVICES.get(schema)
    if service is None or not service.hosted:
        return f"{schema}://{MASK}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{schema}://{MASK}"
    if "." not in host and ":" not in host and host != "localhost":
        return f"{schema}://{MASK}"  # ntfys://topic: the host is the secret
    if ":" in host:
        host = f"[{host}]"
    return f"{schema}://{host}{f':{port}' if port else ''}/{MASK}"


def _pieces(url: str) -> Iterator[str]:
    """List what opens an address: users, passwords, path, values; as written and decoded."""
    _, service = service_of(url)
    head, _, query = url.partition("://")[2].partition("?")
    authority, _, path = head.partition("/")
    userinfo, _, host = authority.rpartition("@")
    found = [userinfo, *userinfo.split(":"), path, *re.split(r"[/#,]", path)]
    found += [pair.partition("=")[2] for pair in re.split(r"[&;#]", query)]
    if not service.hosted or "." not in host:
        found += [host, *host.split(":")]
    for piece in found:
        for text in (piece, unquote(piece)):
            if len(text) >= _SECRET_LENGTH:
                yield text


def _load(schema: str, service: Service, courier: Any) -> type[NotifyBase]:
    """Import one plugin and put the courier where it expects `requests` or `smtplib`."""
    with _loading:
        _silence()
        name = f"apprise.plugins.{service.module}"
        with warnings.catch_warnings():
            # Some plugins import what Python 3.13 drops (imghdr); nothing we could change.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = importlib.import_module(name)
        from apprise.plugins.base import NotifyBase as Base

        guarded = False
        for loaded_name, loaded in list(sys.modules.items()):
            inside = loaded_name == name or loaded_name.startswith(f"{name}.")
            for library, ours in (("requests", courier), ("smtplib", courier.mail)):
                if inside and hasattr(loaded, library):
                    setattr(loaded, library, ours)
                    guarded = True
    if not guarded:
        raise Invalid(f"{schema}:// connects in a way of its own, which cannot be watched here")
    for candidate in vars(module).values():
        if (
            isinstance(candidate, type)
            and issubclass(candidate, Base)
            and candidate is not Base
            and schema in _schemas(candidate)
        ):
            if not candidate.enabled:
                raise Invalid(f"{schema}:// needs a library that is not installed here")
            return candidate
    raise Invalid(f"{schema}:// is not known to the Apprise that is installed")


def _schemas(plugin: type[NotifyBase]) -> set[str]:
    # Apprise's annotations are behind: both may be None, a name or a collection of names.
    told: tuple[Any, Any] = (plugin.protocol, plugin.secure_protocol)
    found: set[str] = set()
    for names in told:
        found.update((names,) if isinstance(names, str) else names or ())
    return found


def _speaks_http(plugin: type[NotifyBase]) -> bool:
    return any(
        hasattr(sys.modules[base.__module__], "requests")
        for base in plugin.__mro__
        if base.__module__.startswith("apprise.plugins.")
    )


def _silence() -> None:
    """Keep Apprise's log lines to itself: they carry topics and tokens.

    Its warnings still reach the result of each call, from where we take and redact them.
    """
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logging.getLogger("urllib3").setLevel(logging.WARNING)


def _asset() -> Any:
    """Make what every plugin is told: nothing on disk, no waits, no retries, no redirects."""
    from apprise import AppriseAsset

    return AppriseAsset(
        app_id="tinytown",
        app_desc="tinytown",
        app_url="https://github.com/tinytown",
        service_timeout=0,
        default_service_retry=0,
        async_mode=False,
        http_redirects=False,
        secure_logging=True,
        interpret_emojis=False,
        interpret_escapes=False,
        storage_mode="memory",
        allow_templates=False,
        pgp_autogen=False,
        pem_autogen=False,
    )
