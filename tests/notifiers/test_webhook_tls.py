"""Webhooks over TLS: the certificate has to be for the name in the URL."""

from __future__ import annotations

import ssl
import warnings
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from certificates import Authority
from fakes.letters import answering, letter, sender
from fakes.stranger import OK, Stranger, Visit
from tinytown_notifiers.sinks.webhook import Reply, SenderRules


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run on both loops: a townhall uses uvloop where it can, and it connects in its own way."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Make an authority that this machine trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


async def greet(stranger: Stranger, host: str = "hooks.example") -> Reply:
    async with sender(rules=SenderRules(total_seconds=5), lookup=answering("127.0.0.1")) as out:
        return await out.send(letter(f"https://{host}:{stranger.port}/"))


async def test_the_name_in_the_url_is_what_the_certificate_has_to_be_for(
    authority: Authority,
) -> None:
    with Stranger(certificate=authority.issue("hooks.example")) as stranger:
        assert (await greet(stranger)).code == "ok"
        assert (await greet(stranger, "other.example")).code == "tls_name"
        assert (await greet(stranger, "127.0.0.1")).code == "tls_name"
        assert len(stranger.requests) == 1


async def test_certificates_that_prove_nothing_are_told_apart(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "stranger").mkdir()
    unknown = Authority(tmp_path / "stranger", "stranger").issue("hooks.example")
    for certificate, code in (
        (authority.issue("hooks.example", days=-1), "tls_expired"),
        (unknown, "tls_other"),
    ):
        with Stranger(certificate=certificate) as stranger:
            assert (await greet(stranger)).code == code
            assert stranger.requests == []


async def test_tls_older_than_1_2_is_not_spoken(authority: Authority) -> None:
    certificate = authority.issue("hooks.example")
    with (
        warnings.catch_warnings(),
        ExitStack() as stack,
    ):
        warnings.simplefilter("ignore", DeprecationWarning)
        stranger = stack.enter_context(
            Stranger(certificate=certificate, tls=ssl.TLSVersion.TLSv1_1)
        )
        assert (await greet(stranger)).code in {"tls_other", "reset"}
        assert stranger.requests == []


async def test_plain_http_where_tls_was_asked_for_is_told_apart() -> None:
    def plain(visit: Visit) -> None:
        visit.connection.recv(1000)
        visit.say(OK)

    with Stranger(plain) as stranger:
        assert (await greet(stranger)).code == "tls_other"


async def test_a_handshake_that_never_ends_ends() -> None:
    def silent(visit: Visit) -> None:
        visit.wait()

    with Stranger(silent) as stranger:
        async with sender(rules=SenderRules(total_seconds=9, connect_seconds=0.4)) as out:
            reply = await out.send(letter(f"https://127.0.0.1:{stranger.port}/"))
            assert reply.code == "connect_timeout"
            assert await anyio.to_thread.run_sync(stranger.gone)


async def test_tls_connections_are_kept_too(authority: Authority) -> None:
    with Stranger(certificate=authority.issue("hooks.example")) as stranger:
        async with sender(lookup=answering("127.0.0.1")) as out:
            for _ in range(5):
                told = letter(f"https://hooks.example:{stranger.port}/")
                assert (await out.send(told)).code == "ok"
        assert stranger.connections == 1
