"""What a search came to: agents a tier, with what it rests on; as JSON, and a page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj.errors import TrajError
from traj.version import __version__

if TYPE_CHECKING:
    from traj.capacity.phase import Phase
    from traj.capacity.procedure import Procedure
    from traj.capacity.search import Found
    from traj.dataset import Dataset
    from traj.workload.options import LoadOptions


@dataclass(frozen=True, slots=True)
class System:
    """What was measured. Accelerators and power are of the whole of it; None where unknown."""

    name: str
    model: str
    accelerators: int | None
    power_w: float | None
    power_known_by: str | None  # measured, stated


@dataclass(frozen=True, slots=True)
class TierResult:
    """Agents in one tier. `above` is the fewest that were seen to fail, None where none were."""

    tier: dict[str, Any]
    agents: int
    above: int | None
    statement: str
    missed: str | None
    agents_per_accelerator: float | None
    agents_per_megawatt: float | None


@dataclass(frozen=True, slots=True)
class Capacity:
    """A search's result."""

    system: System
    tiers: tuple[TierResult, ...]
    phases: tuple[Phase, ...]
    procedure: dict[str, Any]
    reduced: tuple[str, ...]  # in what this is less than the published procedure
    simulated: bool
    load: dict[str, Any]
    dataset: dict[str, Any]
    measured_at: str

    @classmethod
    def of(
        cls,
        system: System,
        found: Sequence[Found],
        phases: Sequence[Phase],
        procedure: Procedure,
        dataset: Dataset,
        load: LoadOptions,
        *,
        simulated: bool = False,
    ) -> Capacity:
        """The result of a search that came to an end."""
        manifest = dataset.manifest
        return cls(
            system=system,
            tiers=tuple(_tier(one, system, procedure) for one in found),
            phases=tuple(phases),
            procedure=asdict(procedure),
            reduced=procedure.reduced(),
            simulated=simulated,
            load=asdict(load),
            dataset={
                "name": manifest.name,
                "version": manifest.version,
                "sha256": hashlib.sha256(manifest.to_json()).hexdigest(),
            },
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def to_dict(self) -> dict[str, Any]:
        """As the JSON file holds it."""
        return {"version": "1.0", "traj": __version__, **asdict(self)}

    def write(self, out: Path) -> None:
        """Writes capacity.json, or the page where `out` ends in .html."""
        import orjson

        if out.suffix == ".html":
            from traj.capacity.page import page

            data = page(self).encode()
        else:
            data = orjson.dumps(self.to_dict(), option=orjson.OPT_INDENT_2) + b"\n"
        scratch = out.with_name(f".{out.name}.unfinished")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(data)
            scratch.replace(out)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise TrajError(f"{out}: cannot write: {error.strerror or error}") from None


def _tier(found: Found, system: System, procedure: Procedure) -> TierResult:
    watts, accelerators = system.power_w, system.accelerators
    return TierResult(
        tier=asdict(found.tier),
        agents=found.agents,
        above=found.above,
        statement=_statement(found, procedure),
        missed=found.missed,
        agents_per_accelerator=found.agents / accelerators if accelerators else None,
        agents_per_megawatt=found.agents / watts * 1e6 if watts else None,
    )


def _statement(found: Found, procedure: Procedure) -> str:
    """How sure it is, in a sentence."""
    passed, tried = found.passed
    below = f"{found.agents} agents met it in {passed} of {tried} phases"
    if not found.agents:
        below = "not even one agent met it"
    if found.above is None:
        return f"{below}; more than {procedure.most} were not tried"
    met, runs = found.passed_above
    above = f"{found.above} in {met} of {runs}"
    return f"{below}, {above}"
