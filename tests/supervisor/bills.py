"""What a run would have cost if nobody had been away, and if everybody had been away for longer."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from projections import billing
from service.domain.bills.run import Run
from service.domain.events import Event, RunAdopted


def bill(events: list[Event], *, away: timedelta | None = None) -> Run:
    """The bill of run 1 from its recorded events: with nobody away (None), or with everybody away for so
    much longer, which moves all that happened after somebody came back."""
    run: Run | None = None
    back = next(event.occurred_at for event in events if isinstance(event.body, RunAdopted))
    for event in events:
        adopted = isinstance(event.body, RunAdopted)
        if event.run != 1 or billing.key(event) is None or (adopted and away is None):
            continue
        later = away if away is not None and event.occurred_at >= back else timedelta()
        run = billing.evolve(run, msgspec.structs.replace(event, occurred_at=event.occurred_at + later))
    assert run is not None
    return run
