"""What numbers can be set to."""

_DAY_S = 86_400
_MIB = 1024**2

#: The least and the most of every number that can be set.
BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "api_workers": (1, 64),
    "default_quota_cpu": (0, 1_000_000),
    "default_quota_gpu": (0, 1_000_000),
    "node_cpus": (1, 4096),
    "node_memory": (1, 1024**5),
    "patience_s": (0, 365 * _DAY_S),
    "stop_grace_s": (1, _DAY_S),
    "lease_ttl_s": (0.5, _DAY_S),
    "poll_s": (0.01, 3600),
    "pull_stall_s": (1, _DAY_S),
    "pull_attempts": (1, 1000),
    "store_attempts": (1, 1000),
    "retry_s": (0.01, 3600),
    "data_concurrency": (1, 1024),
    "progress_s": (0.01, 3600),
    "volume_max_objects": (1, 100_000_000),
    "cache_max_age_s": (0, 10 * 365 * _DAY_S),
    "cache_max_bytes": (0, 1024**6),
    "log_cap_bytes": (_MIB, 1024**4),
    "max_body_bytes": (1024, 1024**3),
    "max_connections": (16, 1_000_000),
    "token_rate": (0, 1_000_000),
    "token_requests": (1, 100_000),
    "token_streams": (1, 100_000),
    "pids_limit": (16, 4_194_304),
    "storage_check_s": (0.01, 3600),
    "budget_look_s": (0.01, 3600),
    "disk_reserve_bytes": (0, 1024**6),
    "memory_reserve_bytes": (0, 1024**5),
    "room_look_s": (0.01, 3600),
    "checkpoint_events": (1, 1_000_000_000),
    "checkpoint_s": (0.01, 365 * _DAY_S),
}
