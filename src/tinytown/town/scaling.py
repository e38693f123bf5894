"""Scaling: gather the demand from the store, say how many workers are wanted, promise them."""

from __future__ import annotations

import itertools
from typing import Final

import msgspec

from tinytown import ids
from tinytown.errors import NotFound
from tinytown.models.mission import Pool
from tinytown.models.scaling import Demand, Signal, Start, missing, only, share, signal, total
from tinytown.store import Store
from tinytown.store.clockwork import Reserved, Snapshot
from tinytown.store.records import must

LEASE_MS: Final = 5_000
"""How long a launcher that promised workers is the only one: long enough for a round, short
enough that another townhall takes over before anybody wonders."""
UNHEARD_OF: Final = "no task or worker has named this pool yet"
TRIES: Final = 20
"""Demand that changes this often between a reading and a promise is left to the next event."""


class Promised(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher should start now."""

    starts: tuple[Start, ...] = ()
    signal: Signal
    """As it was when these starts were promised, saying these and no others."""
    overdue: tuple[str, ...] = ()
    """Pools whose promised workers never came."""
    again_seconds: float | None = None
    """When to ask again although nothing happened; None = not before an event."""


class ScalingDesk:
    """Says the signal, and keeps its promises."""

    def __init__(self, store: Store, *, max_workers: int) -> None:
        """Work on one town's demand, clipped to `max_workers`."""
        self._store = store
        self._most = max_workers

    async def signal(self) -> Signal:
        """Say the town's signal; raises StoreUnavailable, never guesses."""
        return self._say(await self._store.clockwork.demand())

    async def pool(self, name: str) -> Signal:
        """Say one pool's signal in the town's shape; raises NotFound for what cannot be a pool.

        A pool that nobody named yet wants nobody. To refuse it would stop autoscalers for good:
        they ask before the first mission, and take an error for a broken town.
        """
        try:
            msgspec.convert(name, Pool)
        except msgspec.ValidationError as error:
            raise NotFound("pools are called [a-z0-9_-]{1,32}") from error
        whole = await self.signal()
        part = whole.pools.get(name) or msgspec.structs.replace(
            signal(Demand(), least=0, most=0, now_ms=0), reason=UNHEARD_OF
        )
        return msgspec.structs.replace(
            whole,
            **{field: getattr(part, field) for field in part.__struct_fields__},
            pools={name: part},
        )

    async def promise(self, *, launcher: str, token: str) -> Promised:
        """Promise the workers that the signal misses, each for `start_deadline`.

        What is promised counts as `starting` from the same step on, for every process: there are
        never two starts for one demand, whoever dies in between. `token` names the launcher's
        process. Raises StoreUnavailable only before anything was promised.
        """
        for tried in itertools.count(1):
            snapshot = await self._store.clockwork.demand()
            said = self._say(snapshot)
            wanted = tuple(Start(ids.new("start"), pool) for pool in missing(said))
            if not wanted:
                return Promised(signal=said)
            if tried > TRIES:
                return Promised(signal=said, again_seconds=0.1)

            async def reserve(
                snapshot: Snapshot = snapshot, wanted: tuple[Start, ...] = wanted
            ) -> Reserved | None:
                return await self._store.clockwork.reserve_starts(
                    wanted, stamp=snapshot.stamp, launcher=launcher, token=token, lease_ms=LEASE_MS
                )

            # By itself: a promise whose reply got lost would otherwise be nobody's.
            reserved = await self._store.patience.keep_trying("launcher", reserve)
            if reserved is not None:
                granted = tuple(start for start in wanted if start.id in reserved.granted)
                wait_ms = reserved.wait_ms
                return Promised(
                    starts=granted,
                    signal=only(said, granted),
                    overdue=reserved.overdue,
                    again_seconds=None if wait_ms is None else wait_ms / 1000,
                )
        raise AssertionError  # itertools.count has no end

    def _say(self, snapshot: Snapshot) -> Signal:
        """Reckon the signal of one moment."""
        places = share(snapshot.pools, most=self._most)
        pools = {
            name: signal(demand, least=0, most=places[name], now_ms=snapshot.now_ms)
            for name, demand in sorted(snapshot.pools.items())
        }
        whole = signal(
            total(snapshot.pools) if snapshot.pools else Demand(),
            least=0,
            most=self._most,
            now_ms=snapshot.now_ms,
            start=sum(pool.start for pool in pools.values()),
        )
        return Signal(
            **{name: getattr(whole, name) for name in whole.__struct_fields__},
            version=1,
            town=self._store.town,
            generated_at=must(snapshot.now_ms),
            seq=snapshot.seq,
            pools=pools,
        )
