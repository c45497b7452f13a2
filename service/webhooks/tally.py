"""What this process has sent since it began, for its metrics."""

from __future__ import annotations

from dataclasses import dataclass

from service.webhooks.send import Answer


@dataclass
class Tally:
    """Attempts, by outcome; `on_duty` while this process is the one that delivers."""

    delivered: int = 0
    failed: int = 0
    on_duty: bool = False

    def count(self, answer: Answer) -> None:
        if answer.delivered:
            self.delivered += 1
        else:
            self.failed += 1
