"""The candidates: one file a rung, simplest first, and the way back from a saved folder to a predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.errors import SpecError, StoreError
from luthier.rungs.base import read_predictor
from luthier.rungs.calibrated import Calibrated
from luthier.rungs.combined import Combined
from luthier.rungs.distilled import Distilled
from luthier.rungs.dora import Dora
from luthier.rungs.dpo import Dpo
from luthier.rungs.embedding import Embedding, EmbeddingPredictor
from luthier.rungs.few_shot import FewShot
from luthier.rungs.full import Full
from luthier.rungs.instructed import Instructed
from luthier.rungs.lora import Lora
from luthier.rungs.majority import Majority, MajorityPredictor
from luthier.rungs.many_shot import ManyShot
from luthier.rungs.nearest import Nearest, NearestPredictor
from luthier.rungs.pretrained import Pretrained
from luthier.rungs.prompted import PromptPredictor
from luthier.rungs.qlora import QLora
from luthier.rungs.rag import Rag
from luthier.rungs.rag_lora import RagLora, TunedReadingPredictor
from luthier.rungs.rag_shots import RagShots
from luthier.rungs.reading import ReadingPredictor
from luthier.rungs.reasoned import Reasoned, ReasonedPredictor
from luthier.rungs.retrieved_shots import RetrievedShots
from luthier.rungs.self_distilled import SelfDistilled
from luthier.rungs.tfidf import Tfidf, TfidfPredictor
from luthier.rungs.tuned import TunedPredictor
from luthier.rungs.zero_shot import ZeroShot
from luthier.types import Kind, Predictor, Rung

LADDER: tuple[Rung, ...] = (
    Majority(),
    Tfidf(),
    Nearest(),
    Embedding(),
    ZeroShot(),
    Calibrated(),
    Instructed(),
    FewShot(),
    ManyShot(),
    RetrievedShots(),
    Rag(),
    RagShots(),
    Reasoned(),
    Combined(),
    Lora(),
    RagLora(),
    Dora(),
    Full(),
    QLora(),
    Distilled(),
    Dpo(),
    SelfDistilled(),
    Pretrained(),
)

_PREDICTORS = {
    kind.kind: kind
    for kind in (
        MajorityPredictor,
        TfidfPredictor,
        NearestPredictor,
        EmbeddingPredictor,
        PromptPredictor,
        ReadingPredictor,
        ReasonedPredictor,
        TunedPredictor,
        TunedReadingPredictor,
    )
}


def ladder(names: Sequence[str], kind: Kind | None = None) -> list[Rung]:
    """The rungs of these names, in ladder order whatever the order of the names; all of them have to serve the kind.

    Errors: SpecError for a name that is no rung, or a rung that cannot answer tasks of this kind.
    """
    known = {rung.name: rung for rung in LADDER}
    for name in names:
        if name not in known:
            raise SpecError(f"'{name}' is not a rung", where="[ladder] rungs", fix=f"use some of: {', '.join(known)}")
        if kind is not None and kind not in known[name].kinds:
            usable = [rung.name for rung in LADDER if kind in rung.kinds]
            raise SpecError(
                f"'{name}' does not serve a {kind} task",
                where="[ladder] rungs",
                fix=f"use some of: {', '.join(usable)}",
            )
    return [rung for rung in LADDER if rung.name in names]


def load_predictor(folder: Path, models: Mapping[str, Any]) -> Predictor:
    """The predictor that `save` wrote into `folder`; `models` by role must be the ones it was fitted with.

    Errors: StoreError where the folder holds no predictor of a known kind; ModelError where a model is not the same.
    """
    kind = read_predictor(folder)["kind"]
    if kind not in _PREDICTORS:
        raise StoreError(
            f"no predictor is of the kind '{kind}'", where=str(folder), fix=f"one of {sorted(_PREDICTORS)}"
        )
    return _PREDICTORS[kind].load(folder, models)
