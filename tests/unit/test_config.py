"""The one configuration object: defaults, every kind of value, and errors that name the variable."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from service.config import BOUNDS, Settings, read_settings
from service.domain.flavors import DEFAULT_CATALOGUE
from service.errors import Misconfigured
from tests.support import logs


def test_nothing_set_gives_the_defaults() -> None:
    settings = read_settings({})
    assert settings == Settings(state_dir=Path(".jobyard").absolute())
    assert settings.catalogue is DEFAULT_CATALOGUE
    assert settings.volumes_dir == settings.state_dir / "volumes"


def test_values_of_each_kind() -> None:
    settings = read_settings(
        {
            "JOBYARD_STATE_DIR": "/srv/jobyard",
            "JOBYARD_PORT": "80",
            "JOBYARD_POLL_S": "0.5",
            "JOBYARD_NODE_CPUS": "12",
            "JOBYARD_NODE_GPUS": "0, 1,,GPU-abc",
            "JOBYARD_CURRENCY": "USD",
            "JOBYARD_CACHE_MAX_BYTES": "0",
            "JOBYARD_CACHE_MAX_AGE_S": "3600",
            "PORT": "9",
        }
    )
    assert (settings.state_dir, settings.port, settings.poll_s) == (Path("/srv/jobyard"), 80, 0.5)
    assert (settings.node_cpus, settings.node_gpus) == (12, ("0", "1", "GPU-abc"))
    assert settings.currency == "USD"
    assert (settings.cache_max_bytes, settings.cache_max_age_s) == (0, 3600)


def test_the_command_line_wins_where_it_says_something() -> None:
    settings = read_settings({"JOBYARD_PORT": "80", "JOBYARD_HOST": "::"}, port=81, host=None)
    assert (settings.port, settings.host) == (81, "::")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("PORT", "-1"),
        ("API_WORKERS", "0"),
        ("API_WORKERS", "65"),
        ("NODE_CPUS", "many"),
        ("NODE_GPUS", "0,0"),
        ("POLL_S", "0"),
        ("LEASE_TTL_S", "-1"),
        ("LEASE_TTL_S", "nan"),
        ("RETRY_S", "inf"),
        ("STOP_GRACE_S", "0"),
        ("NODE_CPUS", "0"),
        ("NODE_MEMORY", "-1"),
        ("LOG_CAP_BYTES", "0"),
        ("MAX_BODY_BYTES", "-5"),
        ("DEFAULT_QUOTA_GPU", "-1"),
        ("CHECKPOINT_EVENTS", "0"),
        ("CHECKPOINT_S", "nan"),
        *(("CURRENCY", bad) for bad in ("", "eur", "EURO", "€")),
        ("CATALOGUE", "/nowhere/at/all.yaml"),
    ],
)
def test_errors_name_the_variable(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"JOBYARD_{name}|{name}"):
        read_settings({f"JOBYARD_{name}": value})


_EMPTY = "it is empty; give it a value, or leave it out"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "abc", "it must be a whole number from 0 to 65535"),
        ("POLL_S", "soon", "it must be a number from 0.01 to 3600"),
        ("SSH_PORT", "abc", "it must be a port from 0 to 65535, or `off`, which switches SSH off"),
        ("IMAGE_PULL", "never", "it must be always or missing"),
        ("LOG_LEVEL", "loud", "it must be one of debug, info, warning, error, critical"),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_settings({f"JOBYARD_{name}": value})
    assert refused.value.message == f"JOBYARD_{name}: {value!r} is not allowed; {allowed}"


_ELSEWHERE = ["DATABASE_URL", "JOBYARD_MASTER_KEY", "JOBYARD_MIGRATION_URL", "JOBYARD_S3"]
_OURS = [f"JOBYARD_{field.name.upper()}" for field in msgspec.structs.fields(Settings)]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("name", [*_ELSEWHERE, *_OURS])
def test_what_is_there_and_empty_is_not_absent(name: str, empty: str) -> None:
    """As one is that was taken from another which is not set: no key, and no ledger, is made in its place."""
    with pytest.raises(Misconfigured) as refused:
        read_settings({name: empty})
    assert refused.value.message == f"{name}: {empty!r} is not allowed; {_EMPTY}"


def test_a_list_of_nothing() -> None:
    settings = read_settings({"JOBYARD_STORE_ALLOW": "none", "JOBYARD_NODE_GPUS": "None"})
    assert settings.store_networks == () and settings.node_gpus == ()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://yard.example.org", "https://yard.example.org"),
        ("https://yard.example.org/", "https://yard.example.org"),
        ("http://10.0.0.1:8790//", "http://10.0.0.1:8790"),
        ("HTTPS://[fd00::1]:443/yard/", "HTTPS://[fd00::1]:443/yard"),
        ("http://[fe80::1%eth0]:8790", "http://[fe80::1%eth0]:8790"),
    ],
)
def test_where_clients_reach_the_api(given: str, kept: str) -> None:
    """Links are made of it and a path: two slashes would lead elsewhere."""
    assert read_settings({"JOBYARD_PUBLIC_URL": given}).public_url == kept
    assert read_settings({}, public_url=given).public_url == kept, "as a process of the API is told it"


@pytest.mark.parametrize(
    "given",
    [
        "garbage", "yard.example.org:8790", "//yard.example.org", "ftp://yard.example.org", "https://", "https:///",
        "https://yard.example.org:0", "https://ann@yard.example.org", "https://yard.example.org/?a=b",
        "https://yard.example.org/#a", "https://yard example.org",
    ],
)  # fmt: skip
def test_where_nobody_reaches_the_api(given: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_settings({"JOBYARD_PUBLIC_URL": given})
    said = refused.value.message
    assert said.startswith("JOBYARD_PUBLIC_URL: ") and "it must be http://HOST[:PORT][/PATH] or https" in said


def test_errors_name_the_option_that_was_given_in_place_of_the_variable() -> None:
    with pytest.raises(Misconfigured) as refused:
        read_settings({"JOBYARD_PORT": "80", "JOBYARD_API_WORKERS": "0"}, port=99999, host="")
    assert refused.value.message == (
        "--port: 99999 is not allowed; it must be a whole number from 0 to 65535; "
        "JOBYARD_API_WORKERS: 0 is not allowed; it must be a whole number from 1 to 64; "
        f"--host: '' is not allowed; {_EMPTY}"
    )


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning", "error", "critical"])
def test_levels_that_the_log_has(level: str) -> None:
    with logs.set_up(read_settings({"JOBYARD_LOG_LEVEL": level}).log_level):
        pass


def test_every_number_has_bounds_and_a_default_within_them() -> None:
    numbers = {
        field.name
        for field in msgspec.structs.fields(Settings)
        if field.type in (int, float, int | None, float | None)
    }
    assert numbers == BOUNDS.keys()


@pytest.mark.parametrize(
    ("given", "port", "listens"),
    [
        ({}, None, ("127.0.0.1", 8722)),
        ({}, 0, ("127.0.0.1", 0)),
        ({"JOBYARD_SSH_PORT": "off"}, None, None),
        ({"JOBYARD_SSH_PORT": "0"}, None, ("127.0.0.1", 0)),
        ({"JOBYARD_SSH_PORT": "2222", "JOBYARD_HOST": "::"}, 0, ("::", 2222)),
        ({"JOBYARD_SSH_HOST": "::1", "JOBYARD_HOST": "0.0.0.0"}, None, ("::1", 8722)),
    ],
)
def test_where_ssh_listens(given: dict[str, str], port: int | None, listens: tuple[str, int] | None) -> None:
    assert read_settings(given, port=port).ssh_listens == listens


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"), ("PORT", "-1"), ("PORT", "on"), ("PORT", ""),
        ("ADDRESS", "a b"), ("ADDRESS", "host:0"), ("ADDRESS", "user@host"), ("ADDRESS", "ssh://host"),
    ],
)  # fmt: skip
def test_ssh_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"JOBYARD_SSH_{name}"):
        read_settings({f"JOBYARD_SSH_{name}": value})


@pytest.mark.parametrize("address", ["yard.example.org", "10.0.0.1:22", "[::1]:8722"])
def test_where_clients_reach_ssh(address: str) -> None:
    assert read_settings({"JOBYARD_SSH_ADDRESS": address}).ssh_address == address


CATALOGUE = """
flavors:
- {id: small, kind: cpu, default: true, maxUnits: 2, hourlyPrice: 0.5,
   cpus: 1, memory: 1, ephemeralStorage: 1}
- {id: big, kind: gpu, default: true, maxUnits: 1, hourlyPrice: "1.10",
   cpus: 4, memory: 1, ephemeralStorage: 1}
"""


def catalogue(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    return read_settings({"JOBYARD_CATALOGUE": str(path)})


def test_a_catalogue_of_ones_own(tmp_path: Path) -> None:
    found = catalogue(tmp_path, CATALOGUE).catalogue
    assert found.ids() == ["small", "big"]
    assert [str(flavor.hourly_price) for flavor in found.flavors] == ["0.5", "1.10"]
    for text in ("0.03", "0.030", "3", "0.100000001"):
        of = catalogue(tmp_path, CATALOGUE.replace("hourlyPrice: 0.5", f"hourlyPrice: {text}"))
        assert str(of.catalogue.flavors[0].hourly_price) == text


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("id: big", "id: small", r"flavors\[1\].id: 'small' stands twice"),
        (
            "kind: gpu, default: true",
            "kind: gpu",
            "flavors: of kind gpu exactly one must be the default, not 0; they are big",
        ),
        (
            "kind: gpu",
            "kind: cpu",
            r"flavors: of kind cpu exactly one must be the default, not 2 \(small, big\)",
        ),
        ("maxUnits: 2", "maxUnits: 0", r"flavors\[0\].maxUnits: 0 of 'small' must be at least 1"),
        (
            "hourlyPrice: 0.5",
            "hourlyPrice: -1",
            r"flavors\[0\].hourlyPrice: '-1' is not allowed; a price per hour and unit in decimal digits",
        ),
        *(
            (
                "hourlyPrice: 0.5",
                f"hourlyPrice: {text}",
                r"flavors\[0\].hourlyPrice: '.+' is not allowed; a price",
            )
            for text in (
                ".nan",
                "NaN",
                ".inf",
                "1.0e+3",
                "1e3",
                "1_000",
                "0x10",
                "１",
                "0.0000000001",
                "1000001",
            )
        ),
        ("hourlyPrice: 0.5", "hourlyPrice: [1]", "JOBYARD_CATALOGUE"),
        (CATALOGUE, "flavors: []", "flavors: there must be at least one"),
        *(
            ("id: big", f"id: {bad}", r"flavors\[1\].id: '.*' is not the name of a flavor")
            for bad in ('""', r'"a\0"', '" a"', "a" * 65)
        ),
        ("kind: gpu", "kind: tpu", "JOBYARD_CATALOGUE"),
        ("kind: gpu", "kinds: gpu", "JOBYARD_CATALOGUE"),
        ("flavors:", "flavors: [", "JOBYARD_CATALOGUE"),
    ],
)
def test_catalogues_that_cannot_be(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(Misconfigured, match=text) as refused:
        catalogue(tmp_path, CATALOGUE.replace(old, new, 1))
    assert f"JOBYARD_CATALOGUE: {tmp_path}" in refused.value.message.replace("'", "")


def test_a_catalogue_needs_no_gpus(tmp_path: Path) -> None:
    found = catalogue(tmp_path, CATALOGUE.partition("- {id: big")[0]).catalogue
    assert (found.ids(), found.default("gpu")) == (["small"], None)


SHARED = {
    "JOBYARD_SHARED_REGISTRY": "https://Shared.example.org:5000/",
    "JOBYARD_SHARED_REGISTRY_USERNAME": "robot",
    "JOBYARD_SHARED_REGISTRY_PASSWORD": "hunter2hunter2",
}


def test_the_shared_registry_and_its_password_which_is_never_shown() -> None:
    settings = read_settings(SHARED)
    assert settings.shared == ("https", "shared.example.org:5000")
    assert f"{settings.shared_registry_password}" == "hunter2hunter2"
    assert "hunter2" not in repr(settings)
    assert read_settings({}).shared is None
    assert read_settings({"JOBYARD_IMAGE_PULL": "missing"}).image_pull == "missing"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"JOBYARD_SHARED_REGISTRY": "shared"}, "JOBYARD_SHARED_REGISTRY: 'shared' is not allowed"),
        ({"JOBYARD_SHARED_REGISTRY": None}, "JOBYARD_SHARED_REGISTRY: it must be set"),
        ({"JOBYARD_SHARED_REGISTRY_USERNAME": None}, "set both or none"),
        ({"JOBYARD_SHARED_REGISTRY_PASSWORD": None}, "set both or none"),
        ({"JOBYARD_SHARED_REGISTRY_USERNAME": "a:b"}, "JOBYARD_SHARED_REGISTRY_USERNAME: 1 to 255"),
        ({"JOBYARD_IMAGE_PULL": "never"}, "JOBYARD_IMAGE_PULL: 'never' is not allowed"),
    ],
)
def test_shared_registries_that_cannot_be(changed: dict[str, str | None], text: str) -> None:
    given = {name: value for name, value in (SHARED | changed).items() if value is not None}
    with pytest.raises(Misconfigured, match=text) as refused:
        read_settings(given)
    assert "hunter2" not in str(refused.value)


def test_where_public_sources_may_come_from_and_webhooks_go(tmp_path: Path) -> None:
    settings = read_settings({"JOBYARD_FETCH_ALLOW": "10.1.0.0/16, fd00::/8"})
    assert [str(network) for network in settings.fetch_networks] == ["10.1.0.0/16", "fd00::/8"]
    (tmp_path / "ca.pem").write_text("no certificate")
    webhooks = read_settings({"JOBYARD_WEBHOOK_ALLOW": "10.1.0.0/16"})
    assert [str(network) for network in webhooks.webhook_networks] == ["10.1.0.0/16"]
    assert webhooks.fetch_networks == (), "what is fetched from and what is told are two things"
    for of in ("FETCH", "WEBHOOK"):
        for name, value in ((f"{of}_ALLOW", "10.1.0.1/16"), (f"{of}_CA", str(tmp_path / "ca.pem"))):
            with pytest.raises(Misconfigured, match=f"JOBYARD_{name}"):
                read_settings({f"JOBYARD_{name}": value})


def test_checkpoints_use_the_store_of_the_service_unless_they_have_their_own() -> None:
    store = {"JOBYARD_S3": "the service's"}
    assert read_settings(store).checkpoint_s3 == "the service's"
    own = read_settings(store | {"JOBYARD_CHECKPOINT_S3": "their own"})
    assert own.checkpoint_s3 == "their own" and "own" not in repr(own.checkpoint_s3)
    assert read_settings({"JOBYARD_STATE_DIR": "/srv/yard"}).checkpoints == "/srv/yard/checkpoints"
    assert read_settings({"JOBYARD_CHECKPOINT_TO": "s3://b/p"}).checkpoints == "s3://b/p"
