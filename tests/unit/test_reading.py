"""Reading a specification: what is wrong is named with its value and what is allowed; the rest completed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.domain.asked import EnvVarAsked, JobSpecAsked, ResourcesAsked
from service.domain.flavors import DEFAULT_CATALOGUE, GIB, Catalogue
from service.domain.images import parse_image
from service.domain.reading import read_resources, read_spec
from service.domain.spec import JobSpec, Permission, Place, Sealed
from service.errors import Invalid

JOB_ID = "3f2a1b0c-0000-4000-8000-000000000001"


def read(**fields: Any) -> JobSpec:
    """Read a specification as a client writes it, in JSON."""
    asked = msgspec.convert({"image": "busybox"} | fields, JobSpecAsked)
    return read_spec(asked, job_id=JOB_ID, catalogue=DEFAULT_CATALOGUE, seal=lambda t: Sealed("k", "n", t))


def refused(*expected: str, **fields: Any) -> None:
    """Refused, with field, value and what is allowed in the message."""
    with pytest.raises(Invalid) as error:
        read(**fields)
    for text in expected:
        assert text in error.value.message


def test_the_defaults() -> None:
    spec = read()
    assert (spec.image, spec.name, spec.timeout) == ("busybox:latest", "job-3f2a1b0c", 604_800)
    assert (spec.default_http_port, spec.timeout_auto_restart, spec.unsecure_http) == (8080, False, False)
    assert spec.labels == {"ovh/id": JOB_ID, "ovh/type": "job"}
    assert (spec.resources.kind, spec.resources.units) == ("gpu", 1)


# -- resources --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "kind", "units", "flavor"),
    [
        ({}, "gpu", 1, "ai1-1-gpu"),
        ({"gpu": 2}, "gpu", 2, "ai1-1-gpu"),
        ({"cpu": 3}, "cpu", 3, "ai1-1-cpu"),
        ({"cpu": 13, "gpu": 1}, "gpu", 1, "ai1-1-gpu"),
        ({"cpu": 2, "gpu": 0}, "cpu", 2, "ai1-1-cpu"),
        ({"cpu": 0, "gpu": 2}, "gpu", 2, "ai1-1-gpu"),
        ({"flavor": "ai1-1-cpu"}, "cpu", 1, "ai1-1-cpu"),
        ({"flavor": "ai1-1-gpu"}, "gpu", 1, "ai1-1-gpu"),
        ({"cpu": 12}, "cpu", 12, "ai1-1-cpu"),
        ({"gpu": 4}, "gpu", 4, "ai1-1-gpu"),
    ],
)
def test_kind_units_and_flavor(asked: dict[str, Any], kind: str, units: int, flavor: str) -> None:
    resources = read(resources=asked).resources
    assert (resources.kind, resources.units, resources.flavor) == (kind, units, flavor)


def test_memory_and_cpus_scale_with_the_units() -> None:
    resources = read(resources={"gpu": 3}).resources
    assert (resources.cpus, resources.memory, resources.gpus) == (39, 120 * GIB, 3)
    assert read(resources={"cpu": 3}).resources.memory == 12 * GIB


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"flavor": "a100"}, ["resources.flavor", "'a100'", "the flavors are ai1-1-cpu, ai1-1-gpu"]),
        ({"flavor": ""}, ["resources.flavor", "the flavors are ai1-1-cpu, ai1-1-gpu"]),
        ({"flavor": "ai1-1-gpu", "cpu": 1}, ["'ai1-1-gpu'", "gpu flavor", "the cpu flavors are ai1-1-cpu"]),
        ({"flavor": "ai1-1-cpu", "gpu": 1}, ["'ai1-1-cpu'", "cpu flavor", "the gpu flavors are ai1-1-gpu"]),
        ({"cpu": 13}, ["resources.cpu: 13", "1 to 12 units of flavor ai1-1-cpu"]),
        ({"gpu": 5}, ["resources.gpu: 5", "1 to 4 units of flavor ai1-1-gpu"]),
        ({"cpu": -1}, ["resources.cpu: -1", "0 or more"]),
        ({"gpu": -2, "cpu": 1}, ["resources.gpu: -2", "0 or more"]),
        ({"cpu": 0, "gpu": 0}, ["resources.cpu: 0", "at least 1 CPU or 1 GPU"]),
        ({"cpu": 0}, ["resources.cpu: 0", "at least 1 CPU"]),
        ({"gpu": 0}, ["resources.gpu: 0", "resources.cpu"]),
        (
            {"cpu": 1, "memory": 8 * GIB},
            ["resources.memory", str(8 * GIB), "cannot be asked for", str(4 * GIB)],
        ),
        ({"cpu": 1, "ephemeralStorage": 1}, ["resources.ephemeralStorage: 1", "leave it out"]),
        ({"gpu": 1, "gpuModel": "H100"}, ["resources.gpuModel: 'H100'", "Tesla V100S"]),
        ({"cpu": 1, "gpuMemory": 1}, ["resources.gpuMemory: 1", "None"]),
    ],
)
def test_resources_that_are_refused(asked: dict[str, Any], expected: list[str]) -> None:
    refused(*expected, resources=asked)


@pytest.mark.parametrize("asked", [{"gpu": 2}, {"cpu": 5}])
def test_a_specification_that_was_read_back_is_accepted_again(asked: dict[str, Any]) -> None:
    first = read(resources=asked).resources
    again = {
        "cpu": first.cpus,
        "gpu": first.gpus,
        "flavor": first.flavor,
        "memory": first.memory,
        "ephemeralStorage": first.ephemeral_storage,
        "publicNetwork": first.public_network,
        "privateNetwork": first.private_network,
        "gpuBrand": first.gpu_brand,
        "gpuModel": first.gpu_model,
        "gpuMemory": first.gpu_memory,
    }
    assert read(resources=again).resources == first


def test_a_catalogue_without_gpus_says_so() -> None:
    """And one without CPUs; what they have is had."""
    for kind, other in (("cpu", "gpu"), ("gpu", "cpu")):
        only = Catalogue(tuple(f for f in DEFAULT_CATALOGUE.flavors if f.kind == kind))
        assert only.problems() == []
        said = rf"only {kind} flavors are offered here \(ai1-1-{kind}\): say .* resources.{kind}"
        with pytest.raises(Invalid, match=rf"resources.{other}: 2 is not allowed; {said}"):
            read_resources(msgspec.convert({other: 2}, ResourcesAsked), only)
        assert read_resources(msgspec.convert({kind: 2}, ResourcesAsked), only).flavor == f"ai1-1-{kind}"
        if kind == "cpu":
            with pytest.raises(Invalid, match=said) as refused:
                read_resources(ResourcesAsked(), only)
            assert (refused.value.field, refused.value.given) == ("resources.gpu", None)


# -- image, command, environment --------------------------------------------------------------------

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("busybox", "busybox:latest"),
        ("library/busybox:1.36", "library/busybox:1.36"),
        ("ghcr.io/org/image", "ghcr.io/org/image:latest"),
        ("localhost:5000/a/b:tag", "localhost:5000/a/b:tag"),
        ("localhost/a", "localhost/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"a@{DIGEST}", f"a@{DIGEST}"),
        (f"host.tld/a:t@{DIGEST}", f"host.tld/a:t@{DIGEST}"),
        ("a__b/c--d.e_f", "a__b/c--d.e_f:latest"),
    ],
)
def test_images_that_are_accepted(text: str, whole: str) -> None:
    assert read(image=text).image == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Busybox",
        "busybox:",
        "busybox:-x",
        "busybox:" + "a" * 129,
        "busybox@sha256:00",
        "busybox@md5:" + "0" * 64,
        f"busybox@{DIGEST.upper()}",
        "http://host/a",
        "https://host.tld/a",
        "../a",
        "a/../b",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a\n",
        "a\0",
        "a?tag=b",
        "a#b",
        "a%2fb",
        "a\\b",
        "user@host/a",
        "user:pass@host.tld/a",
        "host.tld:/a",
        "host.tld:port/a",
        "host.tld:123456/a",
        "Upper/a",
        "a._b",
        "-a",
        "a-",
        "é",
        "a" * 256,
    ],
)
def test_images_that_are_refused(text: str) -> None:
    assert parse_image(text) is None
    refused("image: ", "[host[:port]/]name[:tag][@sha256:digest]", image=text)


def test_an_image_that_is_no_text_or_far_too_long_is_shown_shortened() -> None:
    with pytest.raises(Invalid) as error:
        read(image="x y" * 1000)
    assert len(error.value.message) < 300


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"command": ["a", "b\0"]}, ["command[1]", "NUL"]),
        ({"command": [""]}, ["command[0]", "the program to run"]),
        ({"command": ["x"] * 1025}, ["command: '1025 items'", "at most 1024"]),
        ({"command": ["x" * 131_073]}, ["command: '131073 bytes'", "at most 131072"]),
        ({"envVars": [{"name": "1A", "value": ""}]}, ["envVars[0].name: '1A'", "a letter or _"]),
        ({"envVars": [{"name": "A=B", "value": ""}]}, ["envVars[0].name: 'A=B'"]),
        ({"envVars": [{"name": "", "value": ""}]}, ["envVars[0].name"]),
        ({"envVars": [{"name": "A\n", "value": ""}]}, ["envVars[0].name"]),
        ({"envVars": [{"name": "A", "value": ""}] * 2}, ["envVars[1].name: 'A'", "stand once"]),
        ({"envVars": [{"name": "A", "value": "x\0"}]}, ["envVars[0].value", "NUL"]),
        ({"envVars": [{"name": f"A{n}", "value": ""} for n in range(513)]}, ["envVars", "at most 512"]),
        ({"envVars": [{"name": "A", "value": "x" * 131_072}]}, ["envVars: '131073 bytes'", "together"]),
        ({"timeout": -1}, ["timeout: -1", "1 to 31536000 seconds"]),
        ({"timeout": 0}, ["timeout: 0"]),
        ({"timeout": 31_536_001}, ["timeout: 31536001"]),
        ({"timeout": 59, "timeoutAutoRestart": True}, ["timeout: 59", "60 to 31536000", "at least a minute"]),
        ({"defaultHttpPort": 0}, ["defaultHttpPort: 0", "1 to 65535"]),
        ({"defaultHttpPort": 65_536}, ["defaultHttpPort: 65536"]),
        ({"grpcPort": -1}, ["grpcPort: -1"]),
        ({"name": "a b"}, ["name: 'a b'", "at most 63"]),
        ({"name": "-a"}, ["name: '-a'"]),
        ({"name": "a" * 64}, ["name: "]),
        ({"name": "a\n"}, ["name: "]),
        ({"readUser": "a\0"}, ["readUser", "plain text of at most 255"]),
        ({"readUser": "a" * 256}, ["readUser"]),
        ({"shutdown": "Slow"}, ["shutdown: 'Slow'", "Normal or Fast"]),
        ({"sshPublicKeys": ["ssh-ed25519 AAAA"]}, ["sshPublicKeys[0]: 'ssh-ed25519 AAAA'", "cut off"]),
        ({"deletionRequested": True}, ["deletionRequested: True"]),
        ({"labels": {"a b": "x"}}, ["labels.a b: 'a b'", "[prefix/]name"]),
        ({"labels": {"": "x"}}, ["labels."]),
        ({"labels": {"a": "x y"}}, ["labels.a: 'x y'", "or empty"]),
        ({"labels": {"a": "x" * 64}}, ["labels.a"]),
        ({"labels": {"a": "x\0"}}, ["labels.a"]),
        ({"labels": {"a/b/c": "x"}}, ["labels.a/b/c"]),
        ({"labels": {"Upper/b": "x"}}, ["labels.Upper/b"]),
        ({"labels": {"ovh/mine": "x"}}, ["labels.ovh/mine", "set by the service"]),
        ({"labels": {f"l{n}": "" for n in range(65)}}, ["labels: '65 labels'", "at most 64"]),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], expected: list[str]) -> None:
    refused(*expected, **fields)


def test_labels_that_were_read_back_are_ours_again() -> None:
    labels = {"ovh/id": "of another job", "ovh/type": "notebook", "team/name": "a", "empty": ""}
    own = {"ovh/id": JOB_ID, "ovh/type": "job"}
    assert read(labels=labels).labels == {"empty": "", "team/name": "a"} | own


def test_secrets_are_sealed_only_after_everything_was_checked() -> None:
    sealed: list[str] = []

    def seal(text: str) -> Sealed:
        sealed.append(text)
        return Sealed("k", "n", "b")

    env = [EnvVarAsked(name="A", value="secret")]
    asked = JobSpecAsked(image="a", env_vars=env, shutdown="Slow")
    with pytest.raises(Invalid):
        read_spec(asked, job_id=JOB_ID, catalogue=DEFAULT_CATALOGUE, seal=seal)
    assert sealed == []


def test_an_environment_value_has_no_repr() -> None:
    assert "secret" not in repr(EnvVarAsked(name="A", value="secret"))


# -- volumes ----------------------------------------------------------------------------------------

STORE = {"alias": "s3", "container": "data-box"}


def volume(path: str = "/data", **fields: Any) -> dict[str, Any]:
    return {"mountPath": path, "permission": "RW"} | (fields or {"dataStore": STORE})


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        (volume(), Place("s3", "data-box")),
        (volume(dataStore=STORE | {"prefix": "/a/b/"}), Place("s3", "data-box", "a/b/")),
        (volume(privateSwift={"region": "GRA", "container": "data-box"}), Place("GRA", "data-box")),
        (volume(volumeSource={"dataStore": STORE}), Place("s3", "data-box")),
        (volume(volumeSource={"standalone": {}}), None),
        (volume(standalone={}), None),
    ],
)
def test_sources(asked: dict[str, Any], place: Place | None) -> None:
    assert read(volumes=[asked]).volumes[0].source == place


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("R", Permission.RO),
        ("RO", Permission.RO),
        ("ro", Permission.RO),
        ("RW", Permission.RW),
        ("RWD", Permission.RWD),
    ],
)
def test_permissions(written: str, read_as: Permission) -> None:
    found = read(volumes=[volume() | {"permission": written}]).volumes[0]
    assert found.permission is read_as
    assert found.push_to == (None if read_as is Permission.RO else Place("s3", "data-box"))


def test_another_place_to_push_to() -> None:
    target = {"alias": "s3", "container": "results"}
    assert read(volumes=[volume(dataStore=STORE, targetDataStore=target)]).volumes[0].push_to == Place(
        "s3", "results"
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([volume("data")], ["volumes[0].mountPath: 'data'", "an absolute path"]),
        ([volume("")], ["volumes[0].mountPath: ''", "an absolute path"]),
        ([volume("/")], ["volumes[0].mountPath: '/'", "below /"]),
        ([volume("//")], ["volumes[0].mountPath"]),
        ([volume("/a/../b")], ["volumes[0].mountPath: '/a/../b'", "'..'"]),
        ([volume("/a/./b")], ["volumes[0].mountPath"]),
        ([volume("/a//b")], ["volumes[0].mountPath"]),
        ([volume("//proc/x")], ["volumes[0].mountPath"]),
        ([volume("/..")], ["volumes[0].mountPath"]),
        ([volume("/proc/x")], ["volumes[0].mountPath: '/proc/x'", "not in /proc, /sys, /dev"]),
        ([volume("/sys")], ["volumes[0].mountPath"]),
        ([volume("/etc")], ["volumes[0].mountPath: '/etc'", "a path below it, such as /etc/app"]),
        ([volume("/etc/")], ["volumes[0].mountPath", "a path below it"]),
        ([volume("/etc/hosts")], ["volumes[0].mountPath", "/etc/hosts, /etc/hostname, /etc/resolv.conf"]),
        ([volume("/etc/hostname")], ["volumes[0].mountPath", "not in /proc"]),
        ([volume("/etc/resolv.conf/x")], ["volumes[0].mountPath", "not in /proc"]),
        ([volume("/dev/shm")], ["volumes[0].mountPath"]),
        ([volume("/a:b")], ["volumes[0].mountPath", "without ',', ':'"]),
        ([volume("/a,b")], ["volumes[0].mountPath"]),
        ([volume("/a\0b")], ["volumes[0].mountPath", "control characters"]),
        ([volume("/" + "a" * 1024)], ["volumes[0].mountPath", "at most 1024 bytes"]),
        ([volume("/a"), volume("/a/")], ["volumes[1].mountPath: '/a'", "volumes[0]", "must differ"]),
        ([volume("/a"), volume("/a/b")], ["volumes[1].mountPath: '/a/b'", "overlaps /a of volumes[0]"]),
        ([volume("/a/b"), volume("/c"), volume("/a")], ["volumes[2].mountPath: '/a'", "volumes[0]"]),
        ([{"mountPath": "/a", "permission": "RW"}], ["volumes[0]: [] is not allowed", "exactly one source"]),
        (
            [volume(dataStore=STORE, standalone={})],
            ["volumes[0]: ['dataStore', 'standalone']", "exactly one source"],
        ),
        (
            [volume(dataStore=STORE, volumeSource={"standalone": {}})],
            ["volumes[0].volumeSource: ['dataStore']", "name the source once"],
        ),
        ([volume(volumeSource={})], ["volumes[0].volumeSource: [] is not", "exactly one source"]),
        ([volume(publicGit={"url": "https://x"})], ["volumes[0].publicGit.url", "https://HOST"]),
        (
            [volume(volumeSource={"publicSwift": {"url": "x"}})],
            ["volumes[0].volumeSource.publicSwift.url", "https://HOST"],
        ),
        ([volume() | {"permission": "X"}], ["volumes[0].permission: 'X'", "RO (or R), RW or RWD"]),
        (
            [volume(dataStore=STORE | {"alias": "a/b"})],
            ["volumes[0].dataStore.alias: 'a/b'", "at most 63"],
        ),
        (
            [volume(privateSwift={"region": "a b", "container": "data-box"})],
            ["volumes[0].privateSwift.region: 'a b'"],
        ),
        ([volume(dataStore=STORE | {"container": "a//b"})], ["volumes[0].dataStore.container: 'a//b'"]),
        ([volume(dataStore=STORE | {"container": "-x"})], ["volumes[0].dataStore.container: '-x'"]),
        ([volume(dataStore=STORE | {"prefix": "a/../b"})], ["volumes[0].dataStore.prefix", "'..'"]),
        ([volume(dataStore=STORE | {"prefix": "a//b"})], ["volumes[0].dataStore.prefix"]),
        ([volume(dataStore=STORE | {"prefix": "a\0"})], ["volumes[0].dataStore.prefix", "control"]),
        ([volume(dataStore=STORE | {"archive": "a.zip"})], ["volumes[0].dataStore.archive: 'a.zip'"]),
        (
            [volume(dataStore=STORE, targetDataStore=STORE) | {"permission": "R"}],
            ["volumes[0].targetDataStore", "RO is never pushed"],
        ),
        (
            [
                volume(
                    dataStore=STORE,
                    targetDataStore=STORE,
                    targetPrivateSwift={"region": "GRA", "container": "data-box"},
                )
            ],
            ["volumes[0].targetDataStore: 'two targets'"],
        ),
        ([volume(f"/v{n}") for n in range(33)], ["volumes: '33 volumes'", "at most 32"]),
    ],
)
def test_volumes_that_are_refused(asked: list[dict[str, Any]], expected: list[str]) -> None:
    refused(*expected, volumes=asked)


def test_siblings_with_a_common_beginning_do_not_overlap() -> None:
    assert [v.mount_path for v in read(volumes=[volume("/a"), volume("/ab/")]).volumes] == ["/a", "/ab"]
