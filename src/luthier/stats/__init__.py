"""Sequences, tests, intervals, power: what luthier promises, as pure functions on numpy and scipy only.

    sequences   right-or-wrong scores: bernoulli_sequence, finite_sequence, target_evidence
    betting     scores in [0, 1]: betting_sequence, betting_evidence
    quantiles   quantile, of observations that may depend on their neighbours
    intervals   one planned look: wilson, clopper_pearson, mean_se, paired_difference, sample_size, holm
    apart       a part against the rest: difference, interval, a test given the scores
    bootstrap   figures that are no mean: confusion_bootstrap
    pooled      the same for figures of sums: pooled_bootstrap
    curves      how the error falls with the number of examples: learning_curve
    continuation    how a race of scores in [0, 1] may go on: continued_races
    power       what a race would decide: decision_boundary, posterior_decision, further_examples, ...

`alpha` is the error level of the whole statement, both sides together; `prior` the (a, b) of a Beta distribution; logs
are natural.
"""

from luthier.stats.apart import Apart, apart, newcombe
from luthier.stats.betting import betting_evidence, betting_excludes, betting_sequence
from luthier.stats.bootstrap import confusion_bootstrap
from luthier.stats.continuation import continued_races
from luthier.stats.curves import Fits, LearningCurve, learning_curve, mean_covariance
from luthier.stats.intervals import (
    PairedDifference,
    clopper_pearson,
    holm,
    mean_se,
    paired_difference,
    sample_size,
    wilson,
)
from luthier.stats.noninferiority import NonInferiority, noninferiority
from luthier.stats.pooled import pooled_bootstrap
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
from luthier.stats.quantiles import Quantile, fewest, quantile
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
    "Apart",
    "Boundary",
    "Fits",
    "LearningCurve",
    "NonInferiority",
    "PairedDifference",
    "Quantile",
    "apart",
    "bernoulli_excludes",
    "bernoulli_interval",
    "bernoulli_sequence",
    "betting_evidence",
    "betting_excludes",
    "betting_sequence",
    "clopper_pearson",
    "confusion_bootstrap",
    "continued_races",
    "decision_boundary",
    "decision_probabilities",
    "evidence_at",
    "expected_examples",
    "fewest",
    "fewest_to_prove",
    "finite_excludes",
    "finite_sequence",
    "further_examples",
    "holm",
    "learning_curve",
    "mean_covariance",
    "mean_se",
    "newcombe",
    "noninferiority",
    "paired_difference",
    "pooled_bootstrap",
    "posterior_decision",
    "quantile",
    "sample_size",
    "smallest_detectable_effect",
    "target_evidence",
    "wilson",
]
