#!/usr/bin/env bash
# The whole story in six commands. Needs luthier with its extra 'train': see README.
set -euo pipefail
cd "$(mktemp -d)"

luthier demo question-routing            # fetches model and data, climbs, prints the verdict
cd luthier-demo/question-routing
cat luthier.toml                         # what was wanted
luthier run                              # again: everything is replayed from the store, no error budget is spent
luthier report --html verdict.html       # rendered again, without measuring
luthier cost --set economics.monthly_requests=3e6 --html cost.html  # what each way costs at ten times the volume
luthier run --json > verdict.json        # for a script: exit code 0 when a candidate meets the target
ls -l "$PWD"
