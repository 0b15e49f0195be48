"""Where backups go, how often they are made, and which of them stay."""

from typing import Annotated, Literal

from pydantic import Field

from carrel.declare.base import Declared, Seconds, SecretRef

Place = Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|file:///)[A-Za-z0-9!_.*'()/-]*$",
                             max_length=1024)]  # fmt: skip
Number = Annotated[int, Field(ge=0, le=1000)]


class KeepBackups(Declared):
    """How many backups stay. One that is kept for any of these reasons stays."""

    last: Annotated[int, Field(ge=1, le=1000)] = Field(3, description="The newest ones.")
    daily: Number = Field(7, description="The newest of each of so many days, UTC.")
    weekly: Number = Field(4, description="The newest of each of so many ISO weeks.")
    monthly: Number = Field(12, description="The newest of each of so many months.")


class BackupConfig(Declared):
    """Backups of all tenants. The values of keys are secrets; what leaves the machine is encrypted beforehand."""

    to: Place | None = Field(
        None, description="`s3://bucket/prefix` or `file:///directory`. Each tenant has its own place beneath it."
    )
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s@/?#]+/?$", max_length=2000)] | None = Field(
        None, description="For R2, MinIO, Ceph and Google: the server's address. Default: Amazon's for the region."
    )
    dialect: Literal["s3", "gcs"] | None = Field(
        None,
        description="In whose words the server is spoken to: `gcs` are Google's, whose conditional writes go by "
        "generations. Default: `gcs` for an endpoint of googleapis.com, else `s3`.",
    )
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] | None = Field(
        None, description="The bucket's region. Default: `us-east-1`, which others mostly take; for Google `auto`."
    )
    access_key: SecretRef | None = Field(
        None, description="The access key's id. Without it, credentials that the machine has by itself are used."
    )
    secret_key: SecretRef | None = Field(None, description="The secret access key.")
    session_token: SecretRef | None = Field(None, description="The token of temporary credentials.")
    path_style: bool = Field(True, description="The bucket in the path and not in the host's name.")
    conditional_writes: bool = Field(
        True,
        description="Rely on the store's conditional writes, so that two hosts never overwrite each other's list. Say "
        "`false` for a store without them, where only one host writes.",
    )
    every_seconds: Seconds | None = Field(
        None, description="Back up each tenant so often. Default: only when it is asked for."
    )
    verify_every_seconds: Annotated[Seconds, Field(le=366 * 86400)] | None = Field(
        None, description="Read a tenant's newest backup back so often, whoever made it."
    )
    keep: KeepBackups = Field(KeepBackups(), description="Which backups stay.")
    bytes_per_second: Annotated[int, Field(ge=1024, le=1 << 40)] | None = Field(
        None, description="The most that one backup sends or fetches."
    )
    concurrent: Annotated[int, Field(ge=1, le=64)] = Field(2, description="Backups at a time that the schedule makes.")


class TenantBackup(Declared):
    """What is different for one tenant."""

    enabled: bool = Field(True, description="Let the schedule back it up.")
    every_seconds: Seconds | None = Field(None, description="Its own interval.")
    keep: KeepBackups | None = Field(None, description="Which of its backups stay.")
