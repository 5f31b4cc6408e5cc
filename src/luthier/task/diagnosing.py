"""Diagnosing: the section of luthier.toml about why candidates miss."""

from __future__ import annotations

from pydantic import Field

from luthier.task.section import Section
from luthier.types import Diagnosing

_DEFAULT = Diagnosing()
FEWEST, MOST = 30, 2000


class DiagnoseSection(Section):
    """Why a model misses: interventions on dev examples that it fails, after the first rung that asks it and fails.

    Nothing of it touches the test split, and nothing changes what a rung learns.
    """

    off: bool = Field(
        default=_DEFAULT.off, description="`true`: a run diagnoses nothing (`luthier diagnose` still does)."
    )
    skip: bool = Field(
        default=_DEFAULT.skip,
        description=(
            "Leave out a later rung where dev shows that it cannot reach the target: the upper end of a 99 % interval "
            "of the dev score under the intervention that resembles it, with an allowance for searching, lies below "
            "`at_least`. The verdict gives the figures. `false`, `--all-rungs` and `--exhaustive`: leave out none."
        ),
    )
    examples: int = Field(
        default=_DEFAULT.examples,
        ge=FEWEST,
        le=MOST,
        description=(
            "How many failures are looked for on dev, and at most as many passing examples set beside them. Under "
            f"{FEWEST} failures nothing is concluded. What a diagnosis costs grows with it."
        ),
    )

    def noun(self) -> Diagnosing:
        return Diagnosing(self.off, self.skip, self.examples)
