"""What a client writes: the wire shapes of a job specification, before anything is checked.

Field names and meanings are OVHcloud's (`JobSpec` of the `ovhai` SDK). Fields that we answer, such as
`memory`, are known here too, because a specification that was read back is sent again as it stands.
"""

from __future__ import annotations

import msgspec


class Asked(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """Base of the shapes a client may send: camelCase, no unknown fields."""


class EnvVarAsked(Asked, frozen=True):
    name: str
    value: str

    def __repr__(self) -> str:
        return f"EnvVarAsked(name={self.name!r})"


class DataStoreAsked(Asked, frozen=True):
    alias: str
    container: str
    prefix: str | None = None
    archive: str | None = None
    internal: bool | None = None


class PrivateSwiftAsked(Asked, frozen=True):
    """The older spelling of a data store: its region is the alias."""

    container: str
    region: str
    prefix: str | None = None
    archive: str | None = None
    internal: bool | None = None


class UrlAsked(Asked, frozen=True):
    url: str


class StandaloneAsked(Asked, frozen=True):
    pass


class SourceAsked(Asked, frozen=True):
    """Exactly one of them says where a volume's data comes from."""

    data_store: DataStoreAsked | None = None
    private_swift: PrivateSwiftAsked | None = None
    public_git: UrlAsked | None = None
    public_swift: UrlAsked | None = None
    standalone: StandaloneAsked | None = None


class VolumeAsked(SourceAsked, frozen=True):
    mount_path: str = ""
    permission: str = "RO"
    cache: bool | None = None
    volume_source: SourceAsked | None = None
    user_volume_id: str | None = None
    target_data_store: DataStoreAsked | None = None
    target_private_swift: PrivateSwiftAsked | None = None


class ResourcesAsked(Asked, frozen=True):
    cpu: int | None = None
    gpu: int | None = None
    flavor: str | None = None
    memory: int | None = None
    ephemeral_storage: int | None = None
    public_network: int | None = None
    private_network: int | None = None
    gpu_brand: str | None = None
    gpu_model: str | None = None
    gpu_memory: int | None = None


class JobSpecAsked(Asked, frozen=True):
    image: str
    command: list[str] | None = None
    env_vars: list[EnvVarAsked] | None = None
    volumes: list[VolumeAsked] | None = None
    resources: ResourcesAsked | None = None
    labels: dict[str, str] | None = None
    name: str | None = None
    timeout: int | None = None
    timeout_auto_restart: bool | None = None
    default_http_port: int | None = None
    unsecure_http: bool | None = None
    grpc_port: int | None = None
    ssh_public_keys: list[str] | None = None
    read_user: str | None = None
    shutdown: str | None = None
    deletion_requested: bool | None = None
