"""What the composition root hands to handlers, by the name of their argument."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.di import NamedDependency
from litestar.params import PathParameter

from tinytown.models.key import Actor
from tinytown.town import Town

TheTown: TypeAlias = NamedDependency[Town]
TheActor: TypeAlias = NamedDependency[Actor]
Id: TypeAlias = Annotated[str, PathParameter()]
