"""Whether what answers as the Docker Engine is still the one whose lease we have.

A service outlives its engine: /var/lib/docker is wiped and dockerd begun anew, a virtual machine is made
anew, what DOCKER_HOST reaches changes. The next one answers at the same place, and only its id tells. What
was begun there under the id of the one before would be, at the next start of the service, of an engine that
is gone; and that a container is not found there says nothing of the run that it belongs to.
"""

from __future__ import annotations

from service.errors import AnotherEngine
from service.supervisor.engine.protocol import Engine


class SameEngine:
    """Asks for the id anew whenever the engine may be another one: its stream of events broke off."""

    def __init__(self, engine: Engine, engine_id: str) -> None:
        self._engine = engine
        self._id = engine_id
        #: How often its stream of events has broken off, as it does when the engine ends.
        self.breaks = 0
        #: How many of them there were when the id was last asked for. A lease can be waited for long: it is
        #: asked for once more after that.
        self._sure_of: int | None = None

    async def sure(self) -> None:
        """It is the same; asked for unless that is known since the last break. Raises as `ask`."""
        while self._sure_of != self.breaks:
            await self.ask()

    async def ask(self) -> None:
        """Raises `AnotherEngine`, or `Unavailable` or `EngineError` where nobody says."""
        breaks = self.breaks
        found = (await self._engine.info()).id
        if found != self._id:
            raise AnotherEngine(
                f"another Docker Engine answers: {found}, and no longer {self._id}. New runs begin on it;"
                f" those of {self._id} end as engine-gone unless that one comes back"
            )
        self._sure_of = breaks
