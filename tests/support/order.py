"""In which order the files of tests are run: the longest first, so that nobody waits for one at the end.

xdist gives each process a file at a time, and by itself those with most tests first: files of a few tests
that take minutes each would come last, while the other processes had nothing to do.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]

#: Those that take longest, the longest first, as measured over a whole run.
LONGEST = (
    "chaos/simulation/test_simulation.py",
    "local/test_parts.py",
    "supervisor/test_storage.py",
    "local/test_up.py",
    "acceptance/test_cli_data.py",
    "acceptance/test_cli_jobs.py",
    "acceptance/test_crash.py",
    "supervisor/test_gone_pushes.py",
    "supervisor/test_supervisor_data.py",
    "api/test_job_http_memory.py",
    "api/test_job_http_hostile.py",
    "local/test_shims.py",
    "chaos/points/test_points.py",
    "api/test_floods.py",
    "supervisor/test_supervisor.py",
    "api/test_exec_ends.py",
    "chaos/upgrade/test_upgrade.py",
    "acceptance/test_cli_exec.py",
    "api/test_schemathesis.py",
    "api/test_exec.py",
    "local/test_engines.py",
    "acceptance/test_cli_exec_ends.py",
    "acceptance/test_parts_come_back.py",
    "supervisor/test_docker_engine.py",
    "chaos/split_brain/test_split_brain.py",
    "api/test_job_http.py",
    "chaos/links/test_links.py",
    "supervisor/test_absence.py",
    "acceptance/test_cli_completion.py",
    "api/test_events_crash.py",
    "local/test_copies.py",
    "local/test_check.py",
    "supervisor/test_guard.py",
    "supervisor/test_log_reading.py",
    "supervisor/test_cache_jobs.py",
    "chaos/kills/test_kills.py",
    "local/test_environment.py",
    "chaos/hostile/test_planted.py",
    "acceptance/test_cli_parity.py",
    "ssh/test_entrance.py",
    "acceptance/test_cli_outcomes.py",
    "data/test_repository.py",
    "billing/test_replay.py",
    "supervisor/test_supervisor_adoption.py",
    "data/test_resume.py",
    "api/test_auth.py",
    "ssh/test_exec.py",
    "api/test_turns.py",
    "supervisor/test_engine_conformance.py",
    "acceptance/test_ssh.py",
    "supervisor/test_private_images.py",
    "chaos/hostile/test_hostile.py",
    "supervisor/test_same_engine.py",
    "ssh/test_bounds.py",
    "acceptance/test_cli_words.py",
    "supervisor/test_log_turns.py",
    "unit/test_cli_streams.py",
    "properties/test_any_order.py",
    "api/test_asof.py",
    "chaos/test_idle_sockets.py",
    "acceptance/test_cli_ends.py",
    "api/test_fuzz_door.py",
)


def arrange(items: list[pytest.Item]) -> None:
    """Those files first, then by the number of tests; what one file holds stays as it is."""
    rank = {_ROOT / name: number for number, name in enumerate(LONGEST)}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -tests[item.path]))
