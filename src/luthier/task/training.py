"""Training: the section of luthier.toml about fine-tunes: where they run, how long, and what is searched on dev."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from luthier.task.section import Section, problem
from luthier.types import Backend


class TrainingSection(Section):
    """Where fine-tunes run, and how. Both backends get the same rows, in the same order, by the same recipe."""

    backend: Backend = Field(
        default="auto",
        description=(
            "`loop` is luthier's own loop, made for CPUs. `trl` is TRL's trainer (extra `trl`), for GPUs and for "
            "several processes. `auto` takes `trl` on a GPU and for several processes, and `loop` otherwise."
        ),
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description=(
            "How many processes of this machine share a fine-tune, by `accelerate launch`: one a GPU. They divide the "
            "examples of each step, so that their number changes no result but for rounding."
        ),
    )

    learning_rate: float | Literal["search"] | None = Field(
        default=None,
        description=(
            'The peak learning rate of a fine-tune on the examples, or `"search"`: it is chosen on dev. Left out: what '
            "was found for the default student (0.001 for adapters, 0.0001 for `full`); a search for any other."
        ),
        json_schema_extra={"values": 'number or `"search"`'},
    )
    epochs: int | Literal["search"] | None = Field(
        default=None,
        description=(
            'How often a fine-tune sees each example (the best dev check is kept), or `"search"` among half as many, '
            "as many and twice as many as usual: on part of the examples, where more epochs look better than they are "
            "on all. Left out: 2, and with fewer than about 750 examples as many as make 96 steps."
        ),
        json_schema_extra={"values": 'whole number or `"search"`'},
    )
    alpha: int | Literal["search"] | None = Field(
        default=None,
        description=(
            'What an adapter adds is scaled by alpha / 16 (its rank); or `"search"` among 16, 32 and 64. `full` has '
            "none, `pretrained` keeps 32, and `dpo` what it goes on from has. Left out: 32."
        ),
        json_schema_extra={"values": 'whole number or `"search"`'},
    )
    search_tokens: int = Field(
        default=40_000,
        ge=1,
        description=(
            "How many tokens of training examples the search on dev spends. Where several of `learning_rate`, "
            "`epochs` and `alpha` are searched, it decides how many of their combinations are tried. A first round of "
            "four is always made, two steps of each and all their epochs, whatever it costs: with the many epochs of "
            "few examples several times 40,000."
        ),
    )
    search_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description=(
            "How many seconds the search may take, about: no round is begun that would go over them, so that the "
            "machine has a say in the choice. Left out: the tokens are its budget, and the same seed gives the same."
        ),
    )
    replay: int | None = Field(
        default=None,
        ge=0,
        le=16,
        description=(
            "How many rows of what the student said by itself before it was fine-tuned are learned again beside the 16 "
            "examples of a step, so that it forgets less; 0: none. Left out: 1 where luthier's own loop trains, which "
            "alone can do it."
        ),
    )
    upper_layers: int | None = Field(
        default=None,
        ge=1,
        description=(
            "On how many of the student's uppermost decoder layers an adapter is put. Those below stay as they are, "
            "and each example is run through them once instead of in every epoch: less time, perhaps a lower score. "
            "`full` trains all weights all the same. From 1 to as many as it has (30 in smollm2-135m). Left out: all."
        ),
    )

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _rate(cls, value: object) -> object:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and value != "search" and not (number and 0 < float(str(value)) < 1):
            raise problem(f"{value!r} is no learning rate", 'write a number such as 0.001, or "search"')
        return value

    @field_validator("epochs", "alpha", mode="before")
    @classmethod
    def _count(cls, value: object, info: ValidationInfo) -> object:
        name = info.field_name or ""
        most, usual = {"epochs": (100, 2), "alpha": (1024, 32)}[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
        if value is not None and value != "search" and not whole:
            raise problem(
                f'{value!r} is neither a whole number from 1 to {most} nor "search"',
                f'write {name} = {usual}, or {name} = "search"',
            )
        return value

    @model_validator(mode="after")
    def _together(self) -> TrainingSection:
        if self.backend == "loop" and self.processes > 1:
            raise problem("the loop is one process", 'set backend = "trl", or remove `processes`')
        return self
