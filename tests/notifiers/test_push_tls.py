"""Pushes over TLS: certificates and host names are verified, whatever a URL would like."""

from __future__ import annotations

from pathlib import Path

import pytest

from certificates import Authority
from fakes.letters import LOOPBACK
from fakes.messages import MakeMessage
from fakes.ntfy import NtfyServer
from fakes.web import Recorder
from tinytown_notifiers.sinks import Delivered, Failed
from tinytown_notifiers.sinks.push import PushSink


async def test_a_private_authority_is_trusted_when_the_machine_trusts_it(
    message: MakeMessage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    sink = PushSink(LOOPBACK)
    with Recorder(certificate=authority.issue("127.0.0.1")) as server:
        for _ in range(2):
            outcome = await sink.send(message(f"ntfys://127.0.0.1:{server.port}/topic"))
            assert isinstance(outcome, Delivered), outcome
        assert len(server.requests) == 2
    sink.close()


@pytest.mark.parametrize("wrong", ["stranger", "other name", "expired"])
async def test_a_certificate_that_proves_nothing_gets_nothing(
    message: MakeMessage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    authority = Authority(tmp_path)
    if wrong != "stranger":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    host = "127.0.0.2" if wrong == "other name" else "127.0.0.1"
    certificate = authority.issue(host, days=-1 if wrong == "expired" else 30)
    sink = PushSink(LOOPBACK)
    with Recorder(certificate=certificate) as server:
        outcome = await sink.send(message(f"ntfys://127.0.0.1:{server.port}/topic"))

        assert isinstance(outcome, Failed)
        assert (outcome.permanent, outcome.reason) == (
            False,
            "the server's certificate is not trusted",
        )
        assert server.requests == []
    sink.close()


async def test_a_server_without_tls_is_told_apart(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    outcome = await sink.send(message(f"ntfys://127.0.0.1:{ntfy.port}/topic"))

    assert isinstance(outcome, Failed)
    assert outcome.reason == "the server does not speak TLS as it should"
    assert ntfy.published == []
