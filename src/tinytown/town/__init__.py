"""Town: what the town can do, one method per use-case; what every door calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from tinytown.egress import Egress
from tinytown.links import AnswerLinks
from tinytown.store import Store
from tinytown.town.acts import Acts
from tinytown.town.deliveries import DeliveryDesk
from tinytown.town.endpoints import EndpointDesk
from tinytown.town.hub import Hub
from tinytown.town.intake import Intake
from tinytown.town.keys import KeyDesk
from tinytown.town.loghub import LogHub
from tinytown.town.missions import MissionDesk
from tinytown.town.questions import QuestionDesk
from tinytown.town.scaling import ScalingDesk
from tinytown.town.sources import SourceDesk
from tinytown.town.webhooks import WebhookMaker
from tinytown.town.workers import WorkerDesk
from tinytown.vault import Vault

__all__ = ["Town", "TownRules"]


class TownRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided (settings.py) as far as the use-cases need it."""

    max_workers: int = 5
    max_attempts: int = 3
    lease_seconds: float = 30


class Town:
    """One town's use-cases, gathered by noun."""

    def __init__(
        self,
        store: Store,
        *,
        rules: TownRules,
        vault: Vault,
        links: AnswerLinks,
        check_url: Callable[[str], Awaitable[None]],
        redact_url: Callable[[str], str],
        egress: Egress,
        public_url: str = "",
    ) -> None:
        """Build the desks; `check_url` raises Invalid for a push URL nobody can send to.

        `egress` says where webhooks may go, `public_url` where other services find this town.
        """
        self.name = store.town
        self.store = store
        self.rules = rules
        self.vault = vault
        self.links = links
        self.hub = Hub(store)
        self.logs = LogHub(store, self.hub)
        maker = WebhookMaker(vault, egress)
        self.missions = MissionDesk(store, maker, max_attempts=rules.max_attempts)
        self.questions = QuestionDesk(store, links)
        self.endpoints = EndpointDesk(
            store, vault, maker, check_url=check_url, redact_url=redact_url
        )
        self.deliveries = DeliveryDesk(store)
        self.acts = Acts(store, self.missions, self.questions)
        self.sources = SourceDesk(store, vault, self.acts, public_url=public_url)
        self.intake = Intake(store, vault)
        self.workers = WorkerDesk(store)
        self.keys = KeyDesk(store)
        self.scaling = ScalingDesk(store, max_workers=rules.max_workers)
