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
    "local/test_up.py",
    "acceptance/test_cli_jobs.py",
    "acceptance/test_cli_data.py",
    "acceptance/test_crash.py",
    "local/test_parts.py",
    "local/test_environment.py",
    "local/test_check.py",
    "supervisor/test_storage.py",
    "api/test_schemathesis.py",
    "acceptance/test_cli_parity.py",
    "acceptance/test_cli_words.py",
    "supervisor/test_supervisor.py",
    "api/test_job_http_hostile.py",
    "api/test_exec_ends.py",
    "data/test_cache.py",
    "billing/test_replay.py",
    "supervisor/test_supervisor_data.py",
    "api/test_exec.py",
    "supervisor/test_supervisor_adoption.py",
    "acceptance/test_cli_completion.py",
    "supervisor/test_private_images.py",
    "ssh/test_files.py",
    "acceptance/test_cli_exec.py",
    "chaos/links/test_links.py",
    "chaos/split_brain/test_split_brain.py",
    "ledger/test_schemas.py",
    "api/test_job_http.py",
    "api/test_events.py",
    "ssh/test_bounds.py",
    "supervisor/test_docker_engine.py",
    "api/test_audit.py",
)


def arrange(items: list[pytest.Item]) -> None:
    """Those files first, then by the number of tests; what one file holds stays as it is."""
    rank = {_ROOT / name: number for number, name in enumerate(LONGEST)}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -tests[item.path]))
