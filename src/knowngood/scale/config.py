"""Where work is done, and how a cluster shares it; the field descriptions are the command line's help."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from knowngood.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

PART = 4096  # photographs: minutes of work for a core, and whole batches, so that rows are those of one long run
CORES = 2


class ClusterConfig(BaseModel):
    """Where the work is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    of_a_cluster: ClassVar[tuple[str, ...]] = ("address", "part_size", "worker_cores")

    engine: Literal["local", "ray"] = Field(
        "local",
        description="local, or ray: on a cluster, and --out is then a folder that all its machines see.",
    )
    address: str | None = Field(
        None, description="Address of the cluster's head, HOST:PORT, or auto; a cluster is started here if not given."
    )
    part_size: int | None = Field(
        None, ge=1, description=f"Photographs in each part of the work on a cluster; {PART} if not given."
    )
    worker_cores: int | None = Field(
        None, ge=1, description=f"Cores of each worker on a cluster; {CORES} if not given."
    )

    @model_validator(mode="after")
    def _of_a_cluster(self) -> Self:
        if self.engine == "local":
            given = [name for name in self.of_a_cluster if getattr(self, name) is not None]
            if given:
                raise of_a_cluster("--" + given[0].replace("_", "-"))
        return self

    @property
    def part(self) -> int:
        """Photographs a part."""
        return self.part_size or PART

    @property
    def cores(self) -> int:
        """Cores a worker."""
        return self.worker_cores or CORES


def of_a_cluster(flag: str) -> ConfigError:
    """Returns what to say of an option that means nothing on this machine alone."""
    return ConfigError(
        f"{flag} says how a cluster works, and none was asked for.", fix=f"Add --engine ray, or leave {flag} out."
    )
