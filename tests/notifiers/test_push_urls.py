"""Which URLs an endpoint may have, and how they are shown."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.errors import Invalid
from tinytown_notifiers.sinks.catalog import PARAMETERS, SERVICES
from tinytown_notifiers.sinks.courier import Courier
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.sinks.target import Target, _load, redacted_url

COURIER = Courier()
GOOD = [
    "ntfy://topic",
    "ntfys://push.example.com/topic",
    "ntfys://user:pass@push.example.com:8443/one?priority=high",
    "ntfys://tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2@ntfy.sh/topic?mode=private",
    "gotifys://gotify.example.com/Asecrettoken",
    "pover://uuuuuuuuuuuuuuuuuuuuuuuuuuuuuu@tttttttttttttttttttttttttttttt?sound=bike",
    "tgram://123456789:AbcdefghijklmnopqrstuvwxyzAbcdefghi/42",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
    "discord://123456789012345678/AbcdefghijklmnopqrstuvwxyzAbcdefghi",
    "mailtos://me:secret@example.com?to=you@example.com",
    "jsons://hooks.example.com/path?+X-Token=abc&method=PUT",
    "barks://api.day.app/devicekey",
]


@pytest.mark.parametrize("url", GOOD)
def test_the_usual_services_are_allowed(url: str, sink: PushSink) -> None:
    sink.validate(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "no service"),
        ("https://ntfy.sh/topic", "or is it a webhook? kind: webhook"),
        ("nonsense://host", "no service"),
        ("dbus://", "no service"),
        ("syslog://", "no service"),
        ("windows://", "no service"),
        ("fcm://project/device?keyfile=/etc/passwd", "no service"),
        ("vapid://me@example.com?keyfile=/etc/passwd", "no service"),
        ("file:///etc/passwd", "no service"),
        ("ntfys://push.example.com", "topic"),
        ("ntfys://push.example.com/bad%20topic", "topic"),
        ("ntfys://push.example.com/good/b%C3%A4d", "topic"),
        ("ntfys://push.example.com/one/two", "one target per endpoint"),
        ("tgram://123456789:AbcdefghijklmnopqrstuvwxyzAbcdefghi/1/2", "one target per endpoint"),
        ("mailtos://me:secret@example.com?to=a@x.org,b@x.org", "one target per endpoint"),
        ("ntfys://tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2@topic", "name the server"),
        ("ntfys://push.example.com/topic?verify=no", "'verify'"),
        ("ntfys://push.example.com/topic?VERIFY=no", "'verify'"),
        ("ntfys://push.example.com/topic?priority=low;redirect=yes", "'redirect'"),
        ("ntfys://push.example.com/topic?rto=3600", "'rto'"),
        ("ntfys://push.example.com/topic?cto=3600", "'cto'"),
        ("ntfys://push.example.com/topic?attach=file:///etc/passwd", "'attach'"),
        ("ntfys://push.example.com/topic?click=javascript:x", "'click'"),
        ("ntfys://push.example.com/topic?actions=x", "'actions'"),
        ("ntfys://push.example.com/topic?retry=9&wait=20", "'retry'"),
        ("ntfys://push.example.com/topic?store=yes", "'store'"),
        ("ntfys://push.example.com/topic?+Authorization=x", "authorization"),
        (
            "tgram://123456789:AbcdefghijklmnopqrstuvwxyzAbcdefghi/1?template=/etc/passwd",
            "template",
        ),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?template=/x", "'template'"),
        ("discord://1234/abcdefghijklmnop?avatar_url=http://10.0.0.1", "'avatar_url'"),
        ("workflows://h.example/a/b?template=/etc/passwd", "'template'"),
        ("mailtos://me:secret@example.com?pgp=yes&pgpprv=/etc/passwd", "pgp"),
        ("gotify://h.example", "gotify"),
        ("pover://only-one-half", "pover"),
        ("ntfys://h.example/topic\nx", "blanks"),
        ("ntfys://h.example/to pic", "blanks"),
        ("ntfys://h.example/" + "t" * 5_000, "at most"),
    ],
)
def test_everything_else_is_refused_with_a_reason(url: str, words: str, sink: PushSink) -> None:
    with pytest.raises(Invalid) as caught:
        sink.validate(url)
    assert words in caught.value.detail


@given(st.text(max_size=80) | st.builds("ntfy://{}?{}".format, st.text(), st.text()))
def test_no_url_makes_validation_stumble(url: str) -> None:
    with contextlib.suppress(Invalid):
        Target(url, COURIER)
    assert redacted_url(url)


def test_every_service_of_the_catalog_is_one_the_installed_apprise_knows() -> None:
    courier = Courier()
    for schema, service in SERVICES.items():
        plugin = _load(schema, service, courier)
        assert plugin.enabled, schema
        if service.free_headers:
            assert plugin.template_kwargs
    courier.close()


def test_no_parameter_that_reads_files_or_lifts_limits_is_allowed() -> None:
    courier = Courier()
    declared = set()
    for schema, service in SERVICES.items():
        declared |= set(_load(schema, service, courier).template_args)
    courier.close()
    suspicious = ("file", "template", "attach", "pgp", "cache", "image", "avatar", "url", "timeout")
    general = {"verify", "redirect", "rto", "cto", "retry", "wait", "optional", "store", "overflow"}

    assert general <= declared
    assert not general & PARAMETERS
    allowed = {name for name in declared & PARAMETERS if any(word in name for word in suspicious)}
    assert allowed == {"url_prefix"}, "a path on the same server, nothing more"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ntfys://user:pass@push.example.com:8443/topic?x=y", "ntfys://push.example.com:8443/•••"),
        ("ntfy://my-secret-topic", "ntfy://•••"),
        ("NTFYS://Push.Example.com/topic", "ntfys://push.example.com/•••"),
        ("gotify://localhost/token", "gotify://localhost/•••"),
        ("json://[::1]:8080/x", "json://[::1]:8080/•••"),
        ("pover://user@token", "pover://•••"),
        ("tgram://123:abc.def/1", "tgram://•••"),
        ("sendgrid://SG.key.more:me@example.com/you", "sendgrid://•••"),
        ("mailtos://me:secret@example.com?to=you@x.y", "mailtos://example.com/•••"),
        ("ntfy://host.example:99999/x", "ntfy://•••"),
        ("unknown://secret.example/x", "unknown://•••"),
        ("no url at all", "•••"),
    ],
)
def test_a_shown_url_tells_where_it_leads_and_nothing_that_opens_it(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


def test_errors_of_a_target_are_masked_with_its_own_pieces() -> None:
    target = Target("ntfys://user:pa%3Ass@push.example.com/my-topic?priority=high", COURIER)

    shown = target.redact("to my-topic at push.example.com as user with pa:ss or pa%3Ass")

    assert shown == "to ••• at push.example.com as ••• with ••• or •••"


PROBE = """
import sys
from tinytown.egress import Egress
from tinytown_notifiers.sinks.push import PushSink
assert not any(name.partition(".")[0] in ("apprise", "requests") for name in sys.modules)
PushSink(Egress()).validate("ntfys://push.example.com/topic")
plugins = [name for name in sys.modules if name.startswith("apprise.plugins.")]
print(len(plugins), "tinytown_notifiers.sinks.courier" in sys.modules)
"""


def test_one_ntfy_endpoint_loads_one_plugin_and_none_before_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == ["2", "True"], "apprise.plugins.base and .ntfy"
