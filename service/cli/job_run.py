"""`jobyard job run`: from options to a job specification, and the job on its way."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from typing import Annotated, Any

import typer

from service.cli import complete, estimate, exits, job, parse, ssh_keys, watch, words
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Output
from service.cli.values import ValueCommand
from service.domain.states import State
from service.errors import Invalid

_COMMAND = "jobyard.command"
_EPILOG = """\b
A volume is one of
  CONTAINER@ALIAS[/PREFIX]:/PATH[:ro|rw|rwd][:cache|no-cache]
  CONTAINER@ALIAS/KEY:/PATH[:ro|rw|rwd]:archive       one object, unpacked
  https://HOST/REPOSITORY[#BRANCH-OR-TAG]:/PATH       a public git repository
  https://HOST/FILE.tar.gz:/PATH                      a public archive
  VOLUME-ID:/PATH[:ro|rw|rwd]                         of `jobyard volume create`
  standalone:/PATH                                    empty at first

With --watch the exit status tells how the job ended: 0 DONE, 1 FAILED, 5 ERROR or INTERRUPTED."""

#: What a specification holds that was read back, and that another job must not take over.
_ANSWERED = ("deletionRequested",)
_OURS = "ovh/"


class RunCommand(ValueCommand):
    """Keeps everything after `--` aside, so that the job's own options are never taken for ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own, rest = args, []
        if "--" in args:
            at = args.index("--")
            own, rest = args[:at], args[at + 1 :]
        ctx.meta[_COMMAND] = rest
        return super().parse_args(ctx, own)


class Shutdown(StrEnum):
    """How the process is told to end: in its own time, or at once."""

    NORMAL = "Normal"
    FAST = "Fast"


def register(app: typer.Typer) -> None:
    """Adds `run` to the commands of `job`."""
    example = "job run -g 1 -v data@local:/data:ro python:3.12-slim -- python train.py"
    command(app, "run", example=example, cls=RunCommand, epilog=_EPILOG)(run)


async def run(
    client: Client,
    output: Output,
    context: typer.Context,
    image: Annotated[str | None, typer.Argument(metavar="IMAGE", help="With --from, that job's own.")] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND", help="In place of the image's own command."),
    ] = None,
    gpu: Annotated[
        int | None, typer.Option("--gpu", "-g", metavar="N", min=0, help="Units of a GPU flavor.")
    ] = None,
    cpu: Annotated[
        int | None, typer.Option("--cpu", "-c", metavar="N", min=0, help="Units of a CPU flavor.")
    ] = None,
    flavor: Annotated[
        str | None,
        typer.Option(
            "--flavor",
            "-f",
            metavar="FLAVOR",
            help="The flavor of the units.",
            autocompletion=complete.flavors,
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="NAME alone takes your own value."),
    ] = None,
    volume: Annotated[
        list[str] | None, typer.Option("--volume", "-v", metavar="VOLUME", help="See below.")
    ] = None,
    push_to: Annotated[
        list[str] | None,
        typer.Option(
            "--push-to", metavar="PLACE:/PATH", help="Push a volume elsewhere: CONTAINER@ALIAS/PREFIX:/PATH."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", metavar="NAME", help="Else one is made up.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="NAME=VALUE", help="To find it by; repeat for more."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", "-t", metavar="DURATION", help="Longest time in RUNNING: 3600, 90m, 1h, 7d."
        ),
    ] = None,
    timeout_auto_restart: Annotated[
        bool | None,
        typer.Option("--timeout-auto-restart/--no-timeout-auto-restart", help="At the timeout, run again."),
    ] = None,
    default_http_port: Annotated[
        int | None,
        typer.Option(
            "--default-http-port", "-p", metavar="PORT", min=1, max=65535, help="The job's own HTTP."
        ),
    ] = None,
    unsecure_http: Annotated[
        bool | None,
        typer.Option("--unsecure-http/--no-unsecure-http", help="Its HTTP is open without a token."),
    ] = None,
    ssh_public_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--ssh-public-keys",
            "--ssh-public-key",
            "-s",
            metavar="KEY",
            help="For SSH: a key's file, or its text.",
        ),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option("--grpc-port", metavar="PORT", min=1, max=65535, help="Where it speaks gRPC."),
    ] = None,
    read_user: Annotated[
        str | None,
        typer.Option("--read-user", metavar="USER", help="A user who may read the job's own HTTP."),
    ] = None,
    shutdown: Annotated[
        Shutdown | None, typer.Option("--shutdown", help="How its process is ended; Fast: at once.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="JOB",
            help="Begin with the specification of this job.",
            autocompletion=complete.jobs,
        ),
    ] = None,
    image_option: Annotated[
        str | None, typer.Option("--image", hidden=True, help="With --from: another image.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Submit nothing: show what it would cost, and whether it can be."),
    ] = False,
    watched: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key never makes a second job."),
    ] = None,
) -> None:
    """Runs a job: IMAGE, and after -- the command in place of the image's own."""
    if key is not None and not (key.isascii() and key.isprintable() and key):
        raise Invalid("--idempotency-key", key, "printable letters")
    asked = spec_of(context)
    base = {} if source is None else _taken_over((await client.get(job.path(source)))["spec"])
    spec = merged(base, asked)
    if not spec.get("image"):
        raise Invalid("IMAGE", None, "name the image to run, or give --from")
    if dry_run:
        estimate.show(output, await client.post("/job/estimate", spec))
        return
    made = await client.post("/job", spec, key=key)
    if not watched:
        output.done(made["id"], made)
    else:
        output.note(f"job {made['id']} ({made['spec'].get('name')})")
    if made["status"]["state"] == State.QUEUED:
        for line in await estimate.waits_for_ever(client, spec):
            output.note(line)
    if watched:
        await _follow(client, output, made)


def spec_of(context: typer.Context) -> dict[str, Any]:
    """The specification that the options write. What was not given is None. Raises `Invalid`."""
    given = context.params
    words.check_given("--image", given["image_option"])
    if given["image"] and given["image_option"]:
        said = f"IMAGE is {given['image']} already; what follows it goes after --"
        raise Invalid("--image", given["image_option"], said)
    if given["cpu"] and given["gpu"]:
        raise Invalid("--cpu", given["cpu"], "--gpu is given too; a job runs on units of one flavor")
    words.check_given("--name", given["name"])  # the API makes one up for a name that is empty
    timeout = given["timeout"]
    resources = {name: given[name] for name in ("gpu", "cpu", "flavor") if given[name] is not None}
    return {
        "image": given["image"] or given["image_option"],
        "command": [*(given["words"] or ()), *context.meta[_COMMAND]] or None,
        "envVars": parse.env_vars(given["env"] or [], os.environ) or None,
        "volumes": parse.volumes(given["volume"] or [], given["push_to"] or []) or None,
        "resources": resources or None,
        "labels": parse.labels(given["label"] or []) or None,
        "name": given["name"],
        "timeout": None if timeout is None else parse.duration_s("--timeout", timeout),
        "timeoutAutoRestart": given["timeout_auto_restart"],
        "defaultHttpPort": given["default_http_port"],
        "unsecureHttp": given["unsecure_http"],
        "sshPublicKeys": ssh_keys.read(given["ssh_public_keys"] or []) or None,
        "grpcPort": given["grpc_port"],
        "readUser": given["read_user"],
        "shutdown": None if given["shutdown"] is None else str(given["shutdown"]),
    }


def merged(base: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """`base` with what was asked in its place. Variables and labels are added one by one; lists replace."""
    spec = base | {name: value for name, value in asked.items() if value is not None}
    if base.get("envVars") and asked.get("envVars"):
        variables = {each["name"]: each for each in (*base["envVars"], *asked["envVars"])}
        spec["envVars"] = list(variables.values())
    for each in spec.get("envVars") or []:
        if each.get("erased"):
            raise Invalid(
                "--env", each["name"], "its value was erased with the other job's key; give it again"
            )
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
    # With -o the answer alone belongs on stdout.
    screen = watch.Screen(output.err, None if output.format is None else output.err_bytes())
    try:
        ended = await watch.follow(client, made["id"], screen)
    except (asyncio.CancelledError, BrokenPipeError):
        output.note(watch.goes_on(made["id"]))
        raise
    if output.format is not None:
        output.item(ended)
    raise typer.Exit(exits.of_state(ended["status"]["state"]))
