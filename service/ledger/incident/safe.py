"""Which settings an incident bundle shows. Each is named here, on one side or the other."""

from __future__ import annotations

from typing import Any

import msgspec

from service.config import Settings

#: What tells how the service decides and works.
SHOWN = (
    *("catalogue", "currency", "default_quota_cpu", "default_quota_gpu", "patience_s", "stop_grace_s"),
    *("node", "node_cpus", "node_memory", "node_gpus", "lease_ttl_s", "poll_s", "retry_s", "pids_limit"),
    *("pull_stall_s", "pull_attempts", "store_attempts", "data_concurrency", "progress_s", "image_pull"),
    *("volume_max_objects", "cache_max_age_s", "cache_max_bytes", "log_cap_bytes", "storage_check_s"),
    *("api_workers", "max_body_bytes", "max_connections", "checkpoint_events", "checkpoint_s"),
    *("budget_look_s", "token_rate", "token_requests", "token_streams"),
    *("disk_reserve_bytes", "memory_reserve_bytes", "room_look_s", "log_level"),
)
#: Secrets, and where things are: addresses, paths and networks are nobody else's business.
WITHHELD = (
    *("state_dir", "host", "port", "public_url", "job_domain", "ssh_port", "ssh_host", "ssh_address"),
    *("shared_registry", "shared_registry_username", "shared_registry_password", "fetch_allow", "fetch_ca"),
    *("checkpoint_to", "checkpoint_s3", "checkpoint_key", "webhook_allow", "webhook_ca", "store_allow"),
)


def shown(settings: Settings) -> dict[str, Any]:
    """By name, as plain JSON."""
    found: dict[str, Any] = msgspec.to_builtins({name: getattr(settings, name) for name in SHOWN})
    return found
