"""The words of `ovhai` that `jobyard` keeps, and its own: their options, and what each asks the API for.

`{job}` and the like stand for ids that the story came upon. The order is that of a day's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from service.cli.exits import Exit
from tests.images import BUSYBOX

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me"
WAITS = ("sh", "-c", "echo here; trap 'exit 0' TERM; while :; do sleep 0.1; done")
SHORT = ("sh", "-c", "echo here")


class Step(NamedTuple):
    """`words` are without `-o`. `asks` are requests that are made, at least; `sends` is in the body of the
    last that has one; `finds` is in the answer, by dotted path; `keep` names values of it."""

    words: str | tuple[str, ...]
    asks: tuple[str, ...]
    sends: Mapping[str, Any] = {}
    finds: Mapping[str, Any] = {}
    keep: Mapping[str, str] = {}
    until: str = ""
    code: int = 0
    format_word: str = "-o"


def _run(*words: str) -> tuple[str, ...]:
    return ("job", "run", *words)


_OUT = {"container": "parity", "alias": "local", "prefix": "out/"}

STORY: tuple[Step, ...] = (
    Step("me", ("GET /me",), finds={"role": "administrator", "tenant": "default"}),
    Step("quota", ("GET /quota",), finds={"project": "default"}),
    Step("capabilities flavor list", ("GET /capabilities/flavor",), finds={"0.id": "ai1-1-cpu"}),
    Step("capabilities flavor get ai1-1-cpu", ("GET /capabilities/flavor/ai1-1-cpu",), finds={"type": "cpu"}),
    Step("capabilities image list", ("GET /capabilities/job/image",), finds={"0.id": "busybox"}),
    Step("capabilities preset list", ("GET /capabilities/preset",), finds={"0.id": "hello"}),
    Step("capabilities preset get hello", ("GET /capabilities/preset/hello",), finds={"name": "Hello"}),
    Step("capabilities quota", ("GET /capabilities/quota",), finds={"0.resources.CPU": 48}),
    Step("bucket create local parity", ("PUT /datastore/local/container/parity",), finds={"name": "parity"}),
    Step("bucket list local", ("GET /datastore/local/container",)),
    Step(
        "bucket object upload parity@local {file} --add-prefix in",
        ("PUT /datastore/local/container/parity/object/in/x.csv",),
        finds={"0.key": "in/x.csv", "0.size": 4},
    ),
    Step(
        "bucket object upload parity@local {file} --object-name y.csv",
        ("PUT /datastore/local/container/parity/object/y.csv",),
        finds={"0.key": "y.csv"},
    ),
    Step(
        "bucket object list parity@local --prefix in/",
        ("GET /datastore/local/container/parity/object",),
        finds={"0.key": "in/x.csv"},
    ),
    Step(
        "bucket object download parity@local in/x.csv --output-dir {folder}",
        ("GET /datastore/local/container/parity/object/in/x.csv",),
        finds={"0.key": "in/x.csv"},
        format_word="--format",
    ),
    Step("volume create parity@local/in/", ("POST /volume",), keep={"volume": "id"}),
    Step("volume create standalone --no-cache", ("POST /volume",), keep={"spare": "id"}),
    Step("volume list", ("GET /volume",)),
    Step("volume get {volume}", ("GET /volume/{volume}",), finds={"dataStore.prefix": "in/", "cache": True}),
    Step(
        _run(
            *("-c", "1", "-f", "ai1-1-cpu", "-e", "K=V", "-n", "parity", "-l", "team=parity", "-t", "1h"),
            *("-v", "{volume}:/in:ro", "-v", "parity@local/out/:/out:rw:no-cache", "-p", "9000"),
            *("--unsecure-http", "--timeout-auto-restart", "--grpc-port", "9001", "--read-user", "ann"),
            *("--shutdown", "Fast", BUSYBOX, "--", *WAITS),
        ),
        ("POST /job",),
        sends={
            "image": BUSYBOX,
            "command": list(WAITS),
            "envVars": [{"name": "K", "value": "V"}],
            "volumes": [
                {"userVolumeId": "{volume}", "mountPath": "/in", "permission": "RO"},
                {"dataStore": _OUT, "mountPath": "/out", "permission": "RW", "cache": False},
            ],
            "resources": {"cpu": 1, "flavor": "ai1-1-cpu"},
            "labels": {"team": "parity"},
            "timeoutAutoRestart": True,
        },
        finds={
            "spec.name": "parity",
            "spec.timeout": 3600,
            "spec.defaultHttpPort": 9000,
            "spec.unsecureHttp": True,
            "spec.grpcPort": 9001,
            "spec.readUser": "ann",
            "spec.shutdown": "Fast",
        },
        keep={"job": "id"},
    ),
    Step("job get {job}", ("GET /job/{job}",), until="RUNNING"),
    Step("job why {job} --run 1", ("GET /job/{job}/why",), finds={"job": "{job}", "waiting": False}),
    Step(
        "job diff {job} --from 0",
        ("GET /job/{job}/diff",),
        finds={"id": "{job}", "from.position": 0, "changes.0.field": "id", "events.0.type": "JobSubmitted"},
        keep={"then": "to.position", "born": "events.0.position"},
    ),
    Step(
        "job list --watch -l team=parity --states RUNNING --limit 1", ("GET /job",), finds={"0.id": "{job}"}
    ),
    Step("job ls -a --sort spec.name --asc --name parity --user administrator", ("GET /job",)),
    Step("job list --updated-after 1h --updated-before 2199-01-01T00:00:00Z", ("GET /job",)),
    Step(
        "job edit {job} --timeout 2h --no-timeout-auto-restart",
        ("PUT /job/{job}",),
        sends={"timeout": 7200, "timeoutAutoRestart": False},
        finds={"spec.timeout": 7200},
    ),
    Step("job label {job} stage=a", ("PUT /job/{job}/label",), finds={"spec.labels.stage": "a"}),
    Step(
        "job push-data {job}",
        ("POST /job/{job}/datasync", "GET /job/{job}"),
        sends={"direction": "push"},
        finds={"status.state": "DONE"},
    ),
    Step(
        "job pull-data {job} --volume /in",  # a cached one that is ro is other jobs' too
        ("POST /job/{job}/datasync", "GET /job/{job}"),
        sends={"direction": "pull"},
        finds={"status.state": "FAILED"},
        code=Exit.FAILED,
    ),
    Step(
        "job pull-data {job} --volume /out --no-wait",
        ("POST /job/{job}/datasync",),
        finds={"status.state": "QUEUED"},
    ),
    Step(
        "events --job {job} --type LabelSet --after 0 -l stage=a",
        ("GET /events",),
        finds={"type": "jobyard.LabelSet", "job": "{job}", "data.name": "stage", "data.value": "a"},
    ),
    Step("job stop {job}", ("PUT /job/{job}/kill",), finds={"id": "{job}"}),
    Step(
        "job wait {job}",
        ("GET /job/{job}",),
        finds={"status.state": "INTERRUPTED"},
        code=Exit.ENDED_OTHERWISE,
    ),
    Step("job start {job}", ("PUT /job/{job}/start",), finds={"id": "{job}"}),
    Step(
        _run(
            "--from", "{job}", "--no-unsecure-http", "-v", "standalone:/s", "--push-to", "parity@local/s/:/s"
        ),
        ("GET /job/{job}", "POST /job"),
        sends={"image": BUSYBOX, "command": list(WAITS), "unsecureHttp": False},
        finds={"spec.volumes.0.targetDataStore.prefix": "s/"},
        keep={"second": "id"},
    ),
    Step("job delete --force {second}", ("DELETE /job/{second}",), finds={"deleted": "{second}"}),
    Step(
        _run("--from", "{job}", "--image", BUSYBOX, "-c", "1", "-w", "--", *SHORT),
        ("POST /job",),
        sends={"command": list(SHORT)},
        finds={"status.state": "DONE"},
    ),
    Step(
        _run("-g", "1", BUSYBOX, *SHORT[:1]), ("POST /job",), sends={"command": ["sh"]}, keep={"third": "id"}
    ),
    Step(
        _run("-c", "2", "--dry-run", BUSYBOX, "--", *SHORT),
        ("POST /job/estimate",),
        sends={"image": BUSYBOX, "resources": {"cpu": 2}},
        finds={"units": 2, "costPerHour": "0.060000", "wouldBeRefused": None},
    ),
    Step("job kill {third}", ("PUT /job/{third}/kill",)),
    Step("incident export --job {job} -f {folder}/i.json", ("GET /job/{job}/incident",)),
    Step("incident replay {folder}/i.json", (), finds={"equal": True, "differences": []}),
    Step("incident show {folder}/i.json", (), finds={"job": "{job}", "events.0.decidedSo": True}),
    Step("job erase {third} --yes", ("DELETE /job/{third}/key",), finds={"erased": "{third}"}),
    Step("job rm --force {job}", ("DELETE /job/{job}",), finds={"deleted": "{job}"}),
    Step("job get {job} --as-of {then}", ("GET /job/{job}",), finds={"status.state": "RUNNING"}),
    Step(
        "job list --as-of {then} -l team=parity",
        ("GET /job",),
        finds={"0.id": "{job}", "0.spec.timeout": 3600},
    ),
    Step(
        "job diff {job} --from {born} --to {then}",
        ("GET /job/{job}/diff",),
        finds={"events.0.type": "RunPlaced", "eventsLeftOut": 0},
    ),
    Step("quota --as-of {then}", ("GET /quota",), finds={"cpuUsed": 1}),
    Step("billing --job {job} --as-of {then}", ("GET /billing",), finds={"items.0.minutes": 0}),
    Step("volume delete {spare}", ("DELETE /volume/{spare}",), finds={"deleted": "{spare}"}),
    Step(
        "bucket object delete parity@local --all --yes",
        ("DELETE /datastore/local/container/parity/object/y.csv",),
    ),
    Step(
        "whatif --quota gpu=8 --capacity gpus=4,cpus=32,memory=128G --from 10m --policy 2023-12 --all",
        ("POST /whatif",),
        sends={"quota": {"gpu": 8}, "capacity": {"gpus": 4, "cpus": 32, "memory": 128 * 2**30}},
        finds={"modelError.otherwise": 0},
    ),
    Step("billing --job {job} --policy 2023-12", ("GET /billing",), finds={"items.0.job": "{job}"}),
    Step("billing statement --project default", ("GET /billing/statement",), finds={"project": "default"}),
    Step(
        "billing replay --policy 2023-12 --from 2020-01-01 --ledger-prices",
        ("POST /billing/replay",),
        sends={"policy": "2023-12", "from": "2020-01-01", "ledgerPrices": True},
        finds={"policy": "2023-12", "unpriced": 0},
    ),
    Step(
        "billing export --format parquet --file {folder}/bill.parquet --project default --as-of 10",
        ("GET /billing/export?format=parquet&project=default&asOf=10",),
        finds={"format": "parquet", "focusVersion": "1.2", "file": "{folder}/bill.parquet"},
    ),
    Step("billing explain {job}/1", ("GET /billing/explain/{job}/1",), finds={"job": "{job}", "run": 1}),
    Step(
        "billing credit 1.5 --reason kindness --project default",
        ("POST /billing/credit",),
        sends={"amount": "1.5", "project": "default"},
        finds={"amount": "-1.5", "job": None},
    ),
    Step(
        "billing correct {job}/1 --minutes 500 --reason mistaken",
        ("POST /billing/correction",),
        sends={"job": "{job}", "run": 1, "minutes": 500},
        finds={"job": "{job}", "currency": "EUR"},
    ),
    Step("prices list --flavor ai1-1-cpu", ("GET /prices",), finds={"items.0.flavor": "ai1-1-cpu"}),
    Step(
        "prices set ai1-1-cpu=0.04 --valid-from 2199-01-01",
        ("POST /prices",),
        sends={"prices": {"ai1-1-cpu": "0.04"}, "validFrom": "2199-01-01"},
        finds={"items.0.inForce": False, "items.0.source": "order"},
    ),
    Step(
        "token create parity --role read --label-selector team=parity",
        ("POST /token",),
        sends={"role": "ai_training_read"},
        keep={"token": "id"},
    ),
    Step("token list", ("GET /token",)),
    Step("token get {token}", ("GET /token/{token}",), finds={"spec.labelSelector": "team=parity"}),
    Step("token renew {token}", ("POST /token/{token}/renew",), finds={"status.version": 2}),
    Step("token delete {token}", ("DELETE /token/{token}",), finds={"deleted": "{token}"}),
    Step(
        "registry add https://parity.example ann --no-check",
        ("POST /registry?check=false",),
        sends={"username": "ann"},
        keep={"registry": "id"},
    ),
    Step("registry list", ("GET /registry",)),
    Step("registry get {registry}", ("GET /registry/{registry}",), finds={"username": "ann"}),
    Step(
        "registry update {registry} --username bob --no-check",
        ("PUT /registry/{registry}?check=false",),
        finds={"username": "bob"},
    ),
    Step("registry delete {registry}", ("DELETE /registry/{registry}",), finds={"deleted": "{registry}"}),
    Step(
        "datastore add s3 parity http://127.0.0.1:9 gra key secret --store-credentials-locally --no-check",
        ("POST /datastore?check=false",),
        finds={"credentials.s3.region": "gra"},
    ),
    Step("datastore list", ("GET /datastore",)),
    Step(
        "datastore update s3 parity http://127.0.0.1:9 bhs key secret --no-check",
        ("PUT /datastore/parity?check=false",),
        finds={"credentials.s3.region": "bhs"},
    ),
    Step("datastore get parity", ("GET /datastore/parity",), finds={"type": "s3"}),
    Step(
        "datastore add git code https://127.0.0.1/team --no-check",
        ("POST /datastore?check=false",),
        sends={"type": "git"},
        finds={"type": "git"},
    ),
    Step(
        "datastore update git code https://127.0.0.1/other --no-check",
        ("PUT /datastore/code?check=false",),
        finds={"endpoint": "https://127.0.0.1/other"},
    ),
    Step("datastore delete code", ("DELETE /datastore/code",), finds={"deleted": "code"}),
    Step("datastore delete parity", ("DELETE /datastore/parity",), finds={"deleted": "parity"}),
    Step(
        "webhook add https://parity.example/hook --type JobSubmitted -s DONE -l a=b --after 0 --no-check",
        ("POST /webhook?check=false",),
        sends={"states": ["DONE"], "labelSelector": "a=b", "after": 0},
        finds={"types.0": "jobyard.JobSubmitted"},
        keep={"webhook": "id"},
    ),
    Step("webhook list", ("GET /webhook",)),
    Step("webhook pause {webhook}", ("POST /webhook/{webhook}/pause",), finds={"status.code": "by-order"}),
    Step("webhook get {webhook}", ("GET /webhook/{webhook}",), finds={"status.state": "PAUSED"}),
    Step(
        "webhook update {webhook} --all --description ci",
        ("PUT /webhook/{webhook}",),
        sends={"types": [], "description": "ci"},
        finds={"description": "ci"},
    ),
    Step(
        "webhook rotate {webhook} --keep-old 0",
        ("POST /webhook/{webhook}/rotate",),
        sends={"keepOldSeconds": 0},
    ),
    Step(
        "webhook replay {webhook} --after 1",
        ("POST /webhook/{webhook}/replay",),
        finds={"status.position": 1},
    ),
    Step(
        "webhook test {webhook}",
        ("POST /webhook/{webhook}/test",),
        finds={"delivered": False},
        code=Exit.FAILED,
    ),
    Step("webhook deliveries {webhook}", ("GET /webhook/{webhook}/delivery",)),
    Step(
        "webhook update {webhook} --webhook-url https://parity.example/other --no-check",
        ("PUT /webhook/{webhook}?check=false",),
        finds={"url": "https://parity.example/other"},
    ),
    Step("webhook resume {webhook}", ("POST /webhook/{webhook}/resume",)),
    Step("webhook delete {webhook}", ("DELETE /webhook/{webhook}",), finds={"deleted": "{webhook}"}),
    Step("project create {project} --cpu 1", ("POST /project",), finds={"project.cpu": 1}),
    Step("project list", ("GET /project",)),
    Step("project quota {project} --cpu 2", ("PUT /project/{project}/quota",), finds={"cpu": 2}),
    Step("project get {project}", ("GET /project/{project}",), finds={"id": "{project}"}),
    Step("budget get", ("GET /budget",), finds={"project": "default", "amount": None}),
    Step(
        "budget set {project} 25 --warn-at 0.5 --warn-at 1",
        ("PUT /project/{project}/budget",),
        sends={"amount": "25", "warnAt": ["0.5", "1"]},
        finds={"amount": "25", "currency": "EUR", "spent": "0.000000"},
    ),
    Step("budget get {project}", ("GET /project/{project}/budget",), finds={"remaining": "25.000000"}),
    Step("audit key", ("GET /audit/key",), keep={"key": "key"}),
    Step("audit log --type PricesSet --all --limit 1", ("GET /audit",), finds={"0.type": "PricesSet"}),
    Step(
        "audit log --job {job} --tree --after 0", ("GET /audit",), finds={"0.effects.0.type": "JobSubmitted"}
    ),
    Step("audit trace 1 --all", ("GET /audit",), finds={"0.effects.0.position": 1}),
    Step(
        "audit prove 1 --output {folder}/proof.json",
        ("GET /audit/proof/1",),
        finds={"position": 1},
        format_word="--format",
    ),
    Step("audit check {folder}/proof.json --key {key}", (), finds={"proved": True}),
    Step("audit export {folder}/trail.jsonl --all --from 1", ("GET /audit/export",), finds={"first": 1}),
    Step(
        "audit verify --file {folder}/trail.jsonl --key {key}",
        (),
        finds={"verified": True, "whole": True, "signature": True},
    ),
    Step("project erase {project} -y", ("DELETE /project/{project}/key",), finds={"erased": "{project}"}),
    Step("audit verify", (), finds={"verified": True}),
    Step("audit verify --against {checkpoints} --key {key}", (), finds={"verified": True, "problems": []}),
    Step("projections verify quota", (), finds={"0.equal": True}),
)

#: Commands that print no document: streams, and what changes nothing that could be shown.
STREAMS = {"job logs", "job exec", "projections rebuild"}

#: What `ovhai` and its guides write, by command.
OPTIONS: dict[str, str] = {
    "job run": "-g --gpu -c --cpu -f --flavor -e --env -v --volume -n --name -l --label -t --timeout -p"
    " --default-http-port -s --ssh-public-keys --unsecure-http --from --image --timeout-auto-restart"
    " --read-user --shutdown --grpc-port --watch -o --output --token --no-color",
    "job list": "--watch -a --all -s --states -o --output --token",
    "job get": "-o --output",
    "job logs": "-f --follow --tail --since",
    "job exec": "-i --stdin -t --tty",
    "job stop": "-o",
    "job start": "-o",
    "job delete": "--force -o",
    "job push-data": "-o",
    "job pull-data": "-o",
    "registry add": "-o",
    "registry list": "-o",
    "registry update": "-o",
    "registry delete": "-o",
    "token create": "-r --role -l --label-selector -o",
    "token list": "-o",
    "token renew": "-o",
    "token delete": "-o",
    "datastore list": "-o",
    "datastore add s3": "-o --store-credentials-locally",
    "datastore update s3": "-o --store-credentials-locally",
    "bucket list": "-o",
    "bucket create": "-o",
    "bucket object list": "-o --prefix",
    "bucket object upload": "-o --add-prefix --object-name",
    "bucket object download": "--output --output-dir --prefix",
    "bucket object delete": "-o --all --yes",
    "capabilities flavor list": "-o",
    "me": "-o",
}
