"""What Prometheus reads at /metrics. One registry an application."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "jobyard_api_requests_total",
            "Requests answered.",
            ("method", "route", "status"),
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
        self.head = Gauge(
            "jobyard_ledger_head_position", "The position of the ledger's last event.", registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
