"""`jobyard job run`: from options to a job specification, and the job on its way."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from service.cli import exits, job, parse, watch
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Output
from service.errors import Invalid

_COMMAND = "jobyard.command"
_EPILOG = r"""A volume is CONTAINER@ALIAS\[/PREFIX]:/PATH\[:ro|rw|rwd]\[:cache|no-cache],
https://HOST/REPOSITORY\[#BRANCH-OR-TAG]:/PATH:ro, https://HOST/FILE.tar.gz:/PATH:ro or
standalone:/PATH:rw. With --watch the exit status tells how the job ended: 0 DONE, 1 FAILED, 5 ERROR or
INTERRUPTED."""

#: What a specification holds that was read back, and that another job must not take over.
_ANSWERED = ("deletionRequested",)
_OURS = "ovh/"


class RunCommand(TyperCommand):
    """Keeps everything after `--` aside, so that the job's own options are never taken for ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own, rest = args, []
        if "--" in args:
            at = args.index("--")
            own, rest = args[:at], args[at + 1 :]
        ctx.meta[_COMMAND] = rest
        return super().parse_args(ctx, own)


def register(app: typer.Typer) -> None:
    """Adds `run` to the commands of `job`."""
    command(app, "run", cls=RunCommand, epilog=_EPILOG)(run)


async def run(
    client: Client,
    output: Output,
    context: typer.Context,
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE [-- COMMAND...]", help="With --from, that job's own.")
    ] = None,
    gpu: Annotated[int | None, typer.Option("--gpu", "-g", min=0, help="Units of a GPU flavor.")] = None,
    cpu: Annotated[int | None, typer.Option("--cpu", "-c", min=0, help="Units of a CPU flavor.")] = None,
    flavor: Annotated[str | None, typer.Option("--flavor", "-f", help="The flavor of the units.")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; NAME takes your own value.")
    ] = None,
    volume: Annotated[list[str] | None, typer.Option("--volume", "-v", help="See below.")] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Else one is made up.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="NAME=VALUE.")] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", "-t", help="Longest time in RUNNING: 3600, 90m, 1h, 7d.")
    ] = None,
    timeout_auto_restart: Annotated[
        bool, typer.Option("--timeout-auto-restart", help="At the timeout, run again.")
    ] = False,
    port: Annotated[
        int | None, typer.Option("--default-http-port", "-p", min=1, max=65535, help="The job's own HTTP.")
    ] = None,
    unsecure_http: Annotated[
        bool, typer.Option("--unsecure-http", help="Its HTTP is open without a token.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="JOB", help="Begin with the specification of this job.")
    ] = None,
    watched: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key never makes a second job.")
    ] = None,
) -> None:
    """Runs a job: IMAGE, and after -- the command in place of the image's own."""
    asked: dict[str, Any] = {
        "image": image,
        "command": context.meta[_COMMAND] or None,
        "envVars": parse.env_vars(env or [], os.environ) or None,
        "volumes": [parse.volume(each) for each in volume or []] or None,
        "resources": {k: v for k, v in (("gpu", gpu), ("cpu", cpu), ("flavor", flavor)) if v is not None}
        or None,
        "labels": parse.labels(label or []) or None,
        "name": name,
        "timeout": None if timeout is None else parse.duration_s("--timeout", timeout),
        "timeoutAutoRestart": timeout_auto_restart or None,
        "defaultHttpPort": port,
        "unsecureHttp": unsecure_http or None,
    }
    base = {} if source is None else _taken_over((await client.get(job.path(source)))["spec"])
    spec = merged(base, asked)
    if not spec.get("image"):
        raise Invalid("IMAGE", None, "name the image to run, or give --from")
    made = await client.post("/job", spec, key=key)
    if not watched:
        output.done(made["id"], made)
        return
    await _follow(client, output, made)


def merged(base: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """`base` with what was asked in its place. Variables and labels are added one by one; lists replace."""
    spec = base | {name: value for name, value in asked.items() if value is not None}
    if base.get("envVars") and asked.get("envVars"):
        variables = {each["name"]: each for each in (*base["envVars"], *asked["envVars"])}
        spec["envVars"] = list(variables.values())
    if base.get("labels") and asked.get("labels"):
        spec["labels"] = base["labels"] | asked["labels"]
    return spec


def _taken_over(spec: dict[str, Any]) -> dict[str, Any]:
    """A specification that was read back, without what belongs to that very job."""
    kept = {name: value for name, value in spec.items() if value is not None and name not in _ANSWERED}
    kept.pop("name", None)
    kept["labels"] = {k: v for k, v in (spec.get("labels") or {}).items() if not k.startswith(_OURS)}
    return kept


async def _follow(client: Client, output: Output, made: Any) -> None:
    """Shows the job to its end and leaves with its outcome. Ctrl-C stops looking, not the job."""
    output.note(f"job {made['id']} ({made['spec'].get('name')})")
    # With -o the answer alone belongs on stdout.
    screen = watch.Screen(output.err, None if output.format is None else output.err_bytes())
    try:
        ended = await watch.follow(client, made["id"], screen)
    except asyncio.CancelledError:
        output.note(watch.goes_on(made["id"]))
        raise
    if output.format is not None:
        output.item(ended)
    raise typer.Exit(exits.of_state(ended["status"]["state"]))
