"""What Prometheus reads at /metrics. One registry an application."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.domain.behind import CLOCK_BEHIND
from service.domain.directory import Node
from service.domain.room import DISK_FULL, MEMORY_FULL
from service.webhooks.tally import Tally

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._attempts_seen: dict[str, int] = {}
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.requests = Counter(
            "jobyard_api_requests_total",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.turned_away = Counter(
            "jobyard_api_connections_turned_away_total",
            "Connections beyond the most that this process holds.",
            registry=self.registry,
        )
        self.seconds = Histogram(
            "jobyard_api_request_seconds",
            "Time from the request's headers to the end of its answer; followed logs are left out.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.events = Counter(
            "jobyard_api_appended_events_total",
            "Events that this process's requests appended to the ledger.",
            registry=self.registry,
        )
        self.followers = Gauge(
            "jobyard_api_log_followers", "Logs that are being followed now.", registry=self.registry
        )
        self.streams = Gauge(
            "jobyard_event_streams", "Event streams that are open now.", ("kind",), registry=self.registry
        )
        self.behind = Gauge(
            "jobyard_event_streams_behind",
            "Event streams that read the ledger by themselves now: they catch up, or are slow.",
            registry=self.registry,
        )
        self.ended = Counter(
            "jobyard_event_streams_ended_total",
            "Event streams that the service ended, by the code that it told.",
            ("code",),
            registry=self.registry,
        )
        self.frames = Counter(
            "jobyard_event_frames_total", "Events sent to event streams.", registry=self.registry
        )
        self.head = Gauge(
            "jobyard_ledger_head_position", "The position of the ledger's last event.", registry=self.registry
        )
        self.signed = Gauge(
            "jobyard_audit_checkpoint_position",
            "How many events are under the newest signed checkpoint.",
            registry=self.registry,
        )
        self.holds = Gauge(
            "jobyard_audit_checkpoint_holds",
            "1 while the ledger extends the newest checkpoint; 0: it was rewritten since, or cut.",
            registry=self.registry,
        )
        self.stopped = Gauge(
            "jobyard_node_stopped",
            "1 while no run begins on the node: it is short of disk space or memory, or the clock is behind.",
            ("node", "reason"),
            registry=self.registry,
        )
        self.tasks = Gauge(
            "jobyard_tasks", "What this process is busy with or waits for: its tasks.", registry=self.registry
        )
        self.webhooks = Gauge(
            "jobyard_webhooks",
            "Webhooks of all projects: all that are delivered to, those of them that fail, those paused.",
            ("state",),
            registry=self.registry,
        )
        self.attempts = Counter(
            "jobyard_webhook_attempts_total",
            "Attempts of this process to deliver an event.",
            ("outcome",),
            registry=self.registry,
        )
        self.delivers = Gauge(
            "jobyard_webhook_on_duty",
            "Whether this process is the one that delivers.",
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request; `seconds` None leaves its time out."""
        # Looking a child up by its labels costs more than counting.
        known = self._answered.get((method, route, status))
        if known is None:
            known = self.requests.labels(method, route, status), self.seconds.labels(method, route)
            self._answered[method, route, status] = known
        count, times = known
        count.inc()
        if seconds is not None:
            times.observe(seconds)

    def attempted(self, tally: Tally) -> None:
        """Bring the counters to where the deliverer's tally is."""
        for outcome, now in (("delivered", tally.delivered), ("failed", tally.failed)):
            self.attempts.labels(outcome).inc(now - self._attempts_seen.get(outcome, 0))
            self._attempts_seen[outcome] = now
        self.delivers.set(tally.on_duty)

    def looked_at(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            for reason in (DISK_FULL, MEMORY_FULL, CLOCK_BEHIND):
                self.stopped.labels(node.name, reason).set(node.stopped == reason)

    def text(self) -> bytes:
        return generate_latest(self.registry)
