#!/usr/bin/env bash
# The demo for three training seeds: does what training buys depend on the draw? The table stands in docs/demo.md.
set -euo pipefail
rtok=${RTOK:-.venv/bin/rtok}
for seed in 0 1 2; do
    "$rtok" train --config configs/demo/train.yaml --overwrite \
        --set seed=$seed --set "tokens={seeds: [$seed]}" --out results/demo-seeds/seed-$seed
done
"$rtok" eval-features --config configs/demo/eval-features.yaml --overwrite --out results/demo-seeds/eval-features \
    --set "tokens=[results/demo-seeds/seed-0, results/demo-seeds/seed-1, results/demo-seeds/seed-2]"
