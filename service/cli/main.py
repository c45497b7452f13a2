"""The `jobyard` command: what users do through the API. One file a noun."""

from __future__ import annotations

import typer

from service.cli import (
    account,
    audit,
    bucket,
    capabilities,
    datastore,
    exec,
    exits,
    job,
    job_data,
    job_run,
    project,
    projections,
    registry,
    token,
    volume,
)

app = typer.Typer(
    name="jobyard",
    help=f"Runs AI-training jobs as Docker containers on machines you own.\n\n{exits.HELP}",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # boxes cut options off at 80 columns
    pretty_exceptions_enable=False,
)

for _name, _noun, _help in (
    ("job", job.app, "Jobs: run, watch, read their logs, stop, start, delete."),
    ("project", project.app, "Projects and their quota."),
    ("token", token.app, "Tokens of your project."),
    ("datastore", datastore.app, "Data stores: where volumes come from and go to."),
    ("volume", volume.app, "Volumes of your project, for its jobs to share."),
    ("registry", registry.app, "Registries with private images."),
    ("capabilities", capabilities.app, "What jobs can be asked for here."),
    ("bucket", bucket.app, "Containers of a data store, and the objects in them."),
    ("projections", projections.app, "Read models: rebuild or verify them from the ledger."),
    ("audit", audit.app, "The audit trail: verify that no event was changed."),
):
    app.add_typer(_noun, name=_name, help=_help, no_args_is_help=True)

account.register(app)
job_run.register(job.app)
job_data.register(job.app)
exec.register(job.app)
