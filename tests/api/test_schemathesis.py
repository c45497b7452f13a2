"""The OpenAPI document against the service: every operation, all of Schemathesis's checks, links followed."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.api.yard import ADMIN, Yard
from tests.support import summary

PROGRAM = Path(sysconfig.get_path("scripts")) / "schemathesis"
CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
PHASES = "examples,coverage,fuzzing,stateful"
EXAMPLES = 6


async def test_every_operation_keeps_what_the_document_says(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options = [
        *("--config-file", str(CONFIGURATION), "run", f"{yard.url}/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {yard.tokens[ADMIN]}"),
        *("--phases", PHASES, "--checks", "all", "--max-examples", str(EXAMPLES)),
        *("--workers", "2", "--continue-on-failure", "--seed", "1", "--no-color", "--max-redirects", "0"),
        *("--generation-database", "none"),
    ]
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM), *options, stdout=PIPE, stderr=STDOUT, cwd=tmp_path, env=os.environ | {"NO_COLOR": "1"}
    )
    output, _ = await process.communicate()
    said = output.decode(errors="replace")
    assert process.returncode == 0, said
    summary.add(request.config, "Schemathesis, all checks", said[said.find("API Operations:") :].strip())
