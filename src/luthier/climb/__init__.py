"""The climb: from a task to a verdict. `stages` knows the order; each other file is one stage, or what stages share."""

from __future__ import annotations

from luthier.climb.asked import diagnose, look_ahead, measure_latency
from luthier.climb.fits import predictor_fingerprint
from luthier.climb.plan import plan
from luthier.climb.stages import Options, run
from luthier.climb.workshop import STORE_FOLDER, Workshop

__all__ = [
    "STORE_FOLDER",
    "Options",
    "Workshop",
    "diagnose",
    "look_ahead",
    "measure_latency",
    "plan",
    "predictor_fingerprint",
    "run",
]
