"""The climb: from a task to a verdict. `stages` knows the order; each other file is one stage, or what stages share."""

from __future__ import annotations

from luthier.climb.fits import predictor_fingerprint
from luthier.climb.plan import plan
from luthier.climb.stages import Options, diagnose, look_ahead, run
from luthier.climb.workshop import STORE_FOLDER, Workshop

__all__ = ["STORE_FOLDER", "Options", "Workshop", "diagnose", "look_ahead", "plan", "predictor_fingerprint", "run"]
