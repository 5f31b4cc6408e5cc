"""Public conformance suites: inherit one, say how to make your implementation, and pytest runs the contract.

    class TestMyModel(ModelContract):
        def make_model(self) -> Model:
            return MyModel()

luthier's own models, rungs and scorers are tested by these very suites.
"""

from luthier.testing.models import ModelContract
from luthier.testing.rungs import RungContract
from luthier.testing.scorers import ScorerContract

__all__ = ["ModelContract", "RungContract", "ScorerContract"]
