"""Guarding: the section of luthier.toml about what a fine-tune must not forget."""

from __future__ import annotations

from pydantic import Field, field_validator

from luthier.task.section import Section, problem
from luthier.types import GuardRules

_DEFAULT = GuardRules()
FEWEST_DOCUMENTS = 32
FEWEST_ITEMS = 200


class GuardSection(Section):
    """What a fine-tune must not forget: the margins of the forgetting guard, and what it looks at.

    Before and after are compared on the same texts, items and prompts. A fine-tune is eligible where it is shown to be
    worse by less than the margin in every suite.
    """

    required: bool = Field(
        default=_DEFAULT.required,
        description="`false`: what was forgotten is measured and reported, but keeps no fine-tune from being chosen.",
    )
    repair: bool = Field(
        default=_DEFAULT.repair,
        description=(
            "Where a fine-tune forgets too much of the guard's own development texts, try it at three quarters, half "
            "and a quarter of its strength before it is raced, then train it anew with more replay, then half as long."
        ),
    )
    alpha: float = Field(
        default=_DEFAULT.alpha,
        gt=0,
        lt=0.5,
        allow_inf_nan=False,
        description="The chance that a fine-tune passes that is worse by a margin or more, over all suites together.",
    )
    nll_margin: float = Field(
        default=_DEFAULT.nll_margin,
        gt=0,
        allow_inf_nan=False,
        description="General text: how much less likely it may get, in nats a token.",
    )
    accuracy_margin: float = Field(
        default=_DEFAULT.accuracy_margin,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Probes of two choices: by how much the share of right ones may fall.",
    )
    kl_ceiling: float = Field(
        default=_DEFAULT.kl_ceiling,
        gt=0,
        allow_inf_nan=False,
        description="General prompts: the most KL(base || tuned), in nats a token of the base model's answers.",
    )
    stop_margin: float = Field(
        default=_DEFAULT.stop_margin,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="General prompts: by how much the share of answers may fall that end by themselves.",
    )
    task_margin: float = Field(
        default=_DEFAULT.task_margin,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Other tasks: by how much the mean score may fall.",
    )
    documents: int = Field(
        default=_DEFAULT.documents,
        description=(
            "How many general texts are read for the certificate, paragraphs of the documentation that Python and the "
            "packages of luthier bring along, or of `text`. At least 32; half as many others serve repairs."
        ),
    )
    document_tokens: int = Field(
        default=_DEFAULT.document_tokens, ge=16, le=4096, description="At how many tokens a general text is cut."
    )
    items: int = Field(
        default=_DEFAULT.items,
        description="How many items a probe of two choices has at most: a seeded choice where there are more.",
    )
    prompts: int = Field(
        default=_DEFAULT.prompts, ge=16, le=1000, description="How many general prompts are answered freely."
    )
    text: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A file with general text of your own (UTF-8, paragraphs parted by empty lines), in place of documentation."
        ),
    )
    probe: str | None = Field(
        default=None,
        min_length=1,
        description=(
            'A probe of two choices, such as PIQA: a JSONL file of `{"goal", "sol1", "sol2", "label"}`, label 0 or 1; '
            "without labels, they stand one a line in a file beside it, `NAME-labels.lst`."
        ),
    )
    tasks: list[str] = Field(
        default=[],
        description=(
            "Your other tasks, by their luthier.toml: the base model and the fine-tune answer examples of their dev "
            "split with the same prompt."
        ),
        json_schema_extra={"values": "list of text"},
    )
    task_examples: int = Field(
        default=_DEFAULT.task_examples, ge=20, description="How many examples of each other task are asked at most."
    )

    @field_validator("documents")
    @classmethod
    def _documents(cls, value: int) -> int:
        if value < FEWEST_DOCUMENTS:
            raise problem(f"{value} texts show little", f"write a whole number of at least {FEWEST_DOCUMENTS}")
        return value

    @field_validator("items")
    @classmethod
    def _items(cls, value: int) -> int:
        if value < FEWEST_ITEMS:
            raise problem(f"{value} items show little", f"write a whole number of at least {FEWEST_ITEMS}")
        return value

    @field_validator("tasks")
    @classmethod
    def _tasks(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value) or not all(name.strip() for name in value):
            raise problem("a task is empty or stands in the list twice", 'write tasks = ["../other/luthier.toml"]')
        return value

    def noun(self) -> GuardRules:
        return GuardRules(**{**self.model_dump(), "tasks": tuple(self.tasks)})
