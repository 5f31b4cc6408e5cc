"""Sequences, tests, intervals, power: what luthier promises, as pure functions on numpy and scipy only.

    sequences   right-or-wrong scores: bernoulli_sequence, finite_sequence, target_evidence
    betting     scores in [0, 1]: betting_sequence, betting_evidence
    power       what a race would decide: decision_boundary, posterior_decision, further_examples, ...

`alpha` is always a two-sided error level of the whole, `prior` the (a, b) of a Beta distribution, logs are natural.
"""

from luthier.stats.betting import betting_evidence, betting_excludes, betting_sequence
from luthier.stats.power import (
    Boundary,
    decision_boundary,
    decision_probabilities,
    expected_examples,
    fewest_to_prove,
    further_examples,
    posterior_decision,
    smallest_detectable_effect,
)
from luthier.stats.sequences import (
    bernoulli_excludes,
    bernoulli_interval,
    bernoulli_sequence,
    evidence_at,
    finite_excludes,
    finite_sequence,
    target_evidence,
)

__all__ = [
    "Boundary",
    "bernoulli_excludes",
    "bernoulli_interval",
    "bernoulli_sequence",
    "betting_evidence",
    "betting_excludes",
    "betting_sequence",
    "decision_boundary",
    "decision_probabilities",
    "evidence_at",
    "expected_examples",
    "fewest_to_prove",
    "finite_excludes",
    "finite_sequence",
    "further_examples",
    "posterior_decision",
    "smallest_detectable_effect",
    "target_evidence",
]
