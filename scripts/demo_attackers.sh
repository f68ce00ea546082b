#!/usr/bin/env bash
# The demo's tokens against attackers who try harder, and the figures of the paper's analysis, on the same held-out photos.
# Needs the tokens of `make demo`; more than an hour on two CPU cores. Its report has everything.
set -euo pipefail
rtok=${RTOK:-.venv/bin/rtok}
results=results/demo-attackers

evaluate() { # a name, and what it changes in the demo's evaluation
    "$rtok" eval-features --config configs/demo/eval-features.yaml --resume --out "$results/$1" "${@:2}"
}

evaluate ensemble --set 'attack={preset: ensemble, eps: 8/255, units: normalized, steps: 10}'
evaluate curve --set 'curve=[0.5/255, 1/255, 2/255, 4/255, 8/255]'
evaluate guessed --set 'threats=[transfer, guessed]' --set 'guessed={train: 2}'

evaluate extracted --set 'threats=[transfer, extracted, adaptive]' --set 'extracted={queries: 12}' --set control_draws=1
evaluate extracted-images --set 'threats=[transfer, extracted]' --set 'extracted={queries_per_image: 2}' --set control_draws=1

"$rtok" train --config configs/demo/train.yaml --resume --set 'tokens={count: [1, 5, 10, 20, 50]}' --out "$results/counts"
evaluate counts-eval --set "tokens=$results/counts" --set 'threats=[transfer, adaptive]' --set 'analysis={activations: true}'
evaluate query --set 'threats=[transfer, query]' --set data.limit=6 --set batch_size=6

"$rtok" report results/demo/train results/demo/eval-features "$results"/{ensemble,curve,guessed,extracted,extracted-images,query,counts,counts-eval} \
    --overwrite --out "$results/report"
