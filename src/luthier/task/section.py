"""Section: what every section of luthier.toml has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


def problem(what: str, fix: str) -> PydanticCustomError:
    """What a validator raises: pydantic carries both parts to `parse.py`, which makes them one SpecError."""
    return PydanticCustomError("luthier", "{what}", {"what": what, "fix": fix})


class Written(float):
    """A number of the file with the text it had there: 300.000 is 300 in TOML, and 300,000 to half of the world."""

    text: str

    def __new__(cls, text: str) -> Written:
        made = super().__new__(cls, text)
        made.text = text
        return made


class Section(BaseModel):
    # strict: 0.85 in quotes is an error, not a number; forbid: a misspelt key never passes silently
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)
