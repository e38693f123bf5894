"""Scaling: gather the demand from the store and say how many workers are wanted."""

from __future__ import annotations

import msgspec

from tinytown.errors import NotFound
from tinytown.models.scaling import Demand, Signal, share, signal, total
from tinytown.store import Store
from tinytown.store.records import must


class ScalingDesk:
    """Says the signal."""

    def __init__(self, store: Store, *, max_workers: int) -> None:
        """Work on one town's demand, clipped to `max_workers`."""
        self._store = store
        self._most = max_workers

    async def signal(self) -> Signal:
        """Say the town's signal; raises StoreUnavailable, never guesses."""
        snapshot = await self._store.clockwork.demand()
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

    async def pool(self, name: str) -> Signal:
        """Say one pool's signal in the town's shape; raises NotFound for an unknown pool."""
        whole = await self.signal()
        part = whole.pools.get(name)
        if part is None:
            raise NotFound(f"no task or worker ever named the pool {name}")
        return msgspec.structs.replace(
            whole,
            **{field: getattr(part, field) for field in part.__struct_fields__},
            pools={name: part},
        )
