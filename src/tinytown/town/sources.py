"""Sources: add a service, change, pause, rotate, remove it; see its hooks, try its rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from tinytown import clock, ids
from tinytown.errors import HookNotFound, Invalid, SourceNotFound, Stale, TownError
from tinytown.models.hook import StoredHook
from tinytown.models.source import (
    SECRETS,
    DryRun,
    GithubRules,
    NewSource,
    NewSourceSecret,
    Preview,
    Rule,
    ShownSourceSecret,
    Source,
    SourcePatch,
    SourceRecord,
    SourceSecret,
    SourceState,
    SourceWithSecret,
)
from tinytown.schemes import check_options, new_secret
from tinytown.schemes.reading import field, kind_of
from tinytown.store import Store
from tinytown.store.sources import Versioned
from tinytown.town.acts import Acts
from tinytown.town.deciding import decide, facts_of
from tinytown.town.rules import Unfit, check_rules
from tinytown.town.sealing import opened
from tinytown.vault import Vault

_RACES = 10


class SourceDesk:
    """What can be done with sources."""

    def __init__(self, store: Store, vault: Vault, acts: Acts, *, public_url: str) -> None:
        """Work on one town's sources; hooks are sent to below `public_url`."""
        self._store = store
        self._vault = vault
        self._acts = acts
        self._public_url = public_url.rstrip("/")

    async def add(self, new: NewSource, *, source_id: str | None = None) -> SourceWithSecret:
        """Add a source; with an id given again, it is the same source with another secret."""
        secret = new.secret or new_secret(new.scheme)
        now = clock.written(clock.now())
        record = SourceRecord(
            id=source_id or ids.new("source"),
            name=new.name,
            scheme=new.scheme,
            options=new.options,
            rules=rules_of(new.rule),
            github=self._github(new.scheme, new.github),
            secrets=(SourceSecret(secret=self._vault.seal(secret), created_at=now),),
            created_at=now,
            updated_at=now,
        )
        check_options(new.scheme, new.options, [secret])
        check_rules(record.rules, place="rule")
        await self._store.sources.put(record)
        return self._with_secret(record, None if new.secret else secret)

    async def read(self, source_id: str) -> tuple[Source, str]:
        """Read a source, and the digest that tells this state of it from others."""
        known = await self._known(source_id)
        return self._show(known.record), known.digest

    async def all(self) -> list[Source]:
        """List all sources, oldest first."""
        _, records = await self._store.sources.all()
        return [self._show(record) for record in records]

    async def change(
        self, source_id: str, patch: SourcePatch, *, expected: tuple[str, ...] | None = None
    ) -> tuple[Source, str]:
        """Change what the patch names; raises Stale where it is none of the `expected` states."""

        def changed(record: SourceRecord) -> SourceRecord:
            changes: dict[str, Any] = {
                name: value
                for name in ("name", "options")
                if (value := getattr(patch, name)) is not msgspec.UNSET
            }
            if patch.rule is not msgspec.UNSET:
                changes["rules"] = rules_of(patch.rule)
            if patch.github is not msgspec.UNSET:
                changes["github"] = self._github(record.scheme, patch.github)
            after = msgspec.structs.replace(record, **changes)
            check_options(after.scheme, after.options, self._secrets(after))
            check_rules(after.rules, place="rule")
            return after

        return await self._write(source_id, changed, expected)

    async def pause(
        self, source_id: str, *, expected: tuple[str, ...] | None = None
    ) -> tuple[Source, str]:
        """Take no hooks until it is resumed; what is stored is still routed."""
        return await self._write(source_id, _in_state(SourceState.PAUSED), expected)

    async def resume(
        self, source_id: str, *, expected: tuple[str, ...] | None = None
    ) -> tuple[Source, str]:
        """Take hooks again."""
        return await self._write(source_id, _in_state(SourceState.ACTIVE), expected)

    async def rotate(
        self,
        source_id: str,
        new: NewSourceSecret,
        *,
        expected: tuple[str, ...] | None = None,
    ) -> tuple[SourceWithSecret, str]:
        """Give a source a new secret; the present ones are taken for the overlap."""
        scheme = (await self._known(source_id)).record.scheme
        secret = new.secret or new_secret(scheme)

        def rotated(record: SourceRecord) -> SourceRecord:
            now = clock.now()
            end = clock.written(now + timedelta(seconds=new.overlap_seconds))
            kept = [
                msgspec.structs.replace(each, expires_at=min(each.expires_at or end, end))
                for each in _alive(record)
                if new.overlap_seconds > 0 and self._vault.open(each.secret) != secret
            ]
            fresh = SourceSecret(secret=self._vault.seal(secret), created_at=clock.written(now))
            after = msgspec.structs.replace(record, secrets=(fresh, *kept)[:SECRETS])
            check_options(after.scheme, after.options, self._secrets(after))
            return after

        source, digest = await self._write(source_id, rotated, expected)
        shown = None if new.secret else secret
        return SourceWithSecret(**_fields(source), secret=shown), digest

    async def remove(self, source_id: str, *, expected: tuple[str, ...] | None = None) -> None:
        """Remove a source with its hooks; raises Stale where it is none of the `expected`."""
        known = await self._known(source_id)
        _hold(known, expected)
        await self._store.sources.drop(source_id, expected=known.digest if expected else "")

    # -- its hooks ------------------------------------------------------------------------------

    async def hooks(
        self, source_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[StoredHook], str | None]:
        """List a source's latest hooks, newest first."""
        await self._known(source_id)
        if cursor is not None and not ids.is_id("hook", cursor):
            raise Invalid("the cursor is not one this list gave")
        return await self._store.hooks.of_source(source_id, cursor=cursor, limit=limit)

    async def replay(self, source_id: str, hook_id: str) -> StoredHook:
        """Let a dead or ignored hook go through the present rules once more."""
        await self._hook(source_id, hook_id)
        await self._store.hooks.replay(hook_id)
        return (await self._store.hooks.read(hook_id)).hook

    async def dry_run(self, source_id: str, trial: DryRun) -> Preview:
        """Say what would happen to a stored or pasted hook; nothing does."""
        source = (await self._known(source_id)).record
        if (trial.hook_id is None) == (trial.payload is msgspec.UNSET):
            raise Invalid("say what to try: a hook_id or a payload")
        headers = {name.lower(): value for name, value in trial.headers.items()}
        payload: Any = trial.payload
        kind = trial.kind
        if trial.hook_id is not None:
            stored = await self._hook(source_id, trial.hook_id)
            if not stored.hook.payload_kept:
                raise Invalid("this hook's payload was too large to be kept: paste it")
            headers = stored.headers | headers
            payload = opened(self._vault, source, stored.payload)
            kind = kind or stored.hook.kind
        if kind is None:
            kind = usual_kind(source, headers, payload)
        facts = facts_of(source, kind=kind, headers=headers, payload=payload)
        try:
            return await self._acts.preview(decide(source, facts), kind)
        except Unfit as error:
            return Preview(kind=kind, would="fail", reason=str(error))
        except TownError as error:
            if error.status >= 500:
                raise
            return Preview(kind=kind, would="fail", reason=error.detail)

    async def _hook(self, source_id: str, hook_id: str) -> Any:
        await self._known(source_id)
        if not ids.is_id("hook", hook_id):
            raise HookNotFound("there is no hook with this id")
        stored = await self._store.hooks.read(hook_id)
        if stored.hook.source_id != source_id:
            raise HookNotFound("this source has no hook with this id")
        return stored

    # -- records --------------------------------------------------------------------------------

    async def _known(self, source_id: str) -> Versioned:
        if not ids.is_id("source", source_id):
            raise SourceNotFound("there is no source with this id")
        return await self._store.sources.read(source_id)

    async def _write(
        self,
        source_id: str,
        changed: Callable[[SourceRecord], SourceRecord],
        expected: tuple[str, ...] | None,
    ) -> tuple[Source, str]:
        """Write a change; without an expectation, to whatever the record is by then."""
        for attempt in range(_RACES):
            known = await self._known(source_id)
            _hold(known, expected)
            after = changed(known.record)
            if after == known.record:
                return self._show(after), known.digest
            after = msgspec.structs.replace(after, updated_at=clock.written(clock.now()))
            try:
                return self._show(after), await self._store.sources.put(
                    after, expected=known.digest
                )
            except Stale:
                if expected is not None or attempt + 1 == _RACES:
                    raise
        raise AssertionError  # the last attempt returns or raises

    def _secrets(self, record: SourceRecord) -> list[str]:
        return [self._vault.open(each.secret) for each in _alive(record)]

    def _github(self, scheme: str, rules: GithubRules | None) -> GithubRules | None:
        if scheme != "github":
            if rules is not None:
                raise Invalid(f"`github` says nothing about a source of the scheme {scheme}")
            return None
        return rules or GithubRules()

    def _show(self, record: SourceRecord) -> Source:
        return Source(
            id=record.id,
            name=record.name,
            scheme=record.scheme,
            state=record.state,
            url=f"{self._public_url}/hooks/{record.id}",
            options=record.options,
            rule=record.rules,
            github=record.github,
            secrets=tuple(
                ShownSourceSecret(created_at=each.created_at, expires_at=each.expires_at)
                for each in _alive(record)
            ),
            created_at=record.created_at,
            updated_at=record.updated_at,
        )

    def _with_secret(self, record: SourceRecord, secret: str | None) -> SourceWithSecret:
        return SourceWithSecret(**_fields(self._show(record)), secret=secret)


def rules_of(rule: Rule | tuple[Rule, ...] | None) -> tuple[Rule, ...]:
    """Make a list of one rule, several or none."""
    return (rule,) if isinstance(rule, Rule) else rule or ()


def usual_kind(source: SourceRecord, headers: dict[str, str], payload: Any) -> str:
    """Read the event's type of a pasted hook as its scheme does of a proved one."""
    options = source.options
    match source.scheme:
        case "github":
            return kind_of(headers.get("x-github-event"), field(payload, "action"))
        case "linear":
            return kind_of(field(payload, "type"), field(payload, "action"))
        case "slack":
            said = field(payload, "type")
            inner = field(payload, "event.type") if said == "event_callback" else said
            return kind_of(inner) or "slash_command"
        case "stripe" | "standard":
            return kind_of(field(payload, "type"))
        case _:
            if options.kind_header:
                return kind_of(headers.get(options.kind_header))
            return kind_of(field(payload, options.kind_field)) if options.kind_field else ""


def _in_state(state: SourceState) -> Callable[[SourceRecord], SourceRecord]:
    return lambda record: msgspec.structs.replace(record, state=state)


def _hold(known: Versioned, expected: tuple[str, ...] | None) -> None:
    if expected is not None and known.digest not in expected and "*" not in expected:
        raise Stale("the source was changed meanwhile: read it again")


def _alive(record: SourceRecord) -> list[SourceSecret]:
    now = clock.written(clock.now())
    return [each for each in record.secrets if each.expires_at is None or each.expires_at > now]


def _fields(source: Source) -> dict[str, Any]:
    return {name: getattr(source, name) for name in source.__struct_fields__}
