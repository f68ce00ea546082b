#!/usr/bin/env bash
# The tables of docs/scaling.md on defenses trained with `precision: auto`: the demo's LoRA, attacked white-box, and the demo's
# tokens, under attacks on the plain model, trained with either precision and attacked in fp32. Needs the backbone of
# `make demo` and a processor where bf16 pays; an hour on one core. A run that is finished is not done again.
#   scripts/trained_precision.sh [SEED...]   0 to 5 without arguments
set -euo pipefail
rtok=${RTOK:-.venv/bin/rtok}
results=${RESULTS:-results/trained-precision}

both() {  # SEED FOLDER CONFIG THREAT
  for precision in fp32 auto; do
    "$rtok" train --config "configs/demo/$3" --set precision="$precision" --set seed="$1" --set defense.seeds="[$1]" \
      --resume --out "$2/$precision-seed-$1"
  done
  "$rtok" eval-features --config configs/demo/eval-features.yaml --set precision=fp32 --set "threats=[$4]" --set sanity.images=0 \
    --set "defense=[$2/fp32-seed-$1,$2/auto-seed-$1]" --resume --out "$2/eval-$1"
}

for seed in ${*:-0 1 2 3 4 5}; do
  both "$seed" "$results" train-lora.yaml adaptive
  both "$seed" "$results-tokens" train.yaml transfer
done
python=${PYTHON:-.venv/bin/python}
"$python" -m benchmarks.trainings "$results" --compare fp32
"$python" -m benchmarks.trainings "$results-tokens" --compare fp32 --threat transfer
