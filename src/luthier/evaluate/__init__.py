"""Scoring predictions, and racing predictors on the test order until the answer is certain."""
