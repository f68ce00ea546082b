#!/usr/bin/env bash
# The table of docs/scaling.md on defenses trained with `precision: auto`: the demo's LoRA, trained with either precision and
# attacked white-box, in fp32. Needs the backbone of `make demo` and a processor with bf16 instructions; half an hour on one core.
# A run that is finished is not done again.
#   scripts/trained_precision.sh [SEED...]   0 to 5 without arguments
set -euo pipefail
rtok=${RTOK:-.venv/bin/rtok}
results=${RESULTS:-results/trained-precision}

for seed in ${*:-0 1 2 3 4 5}; do
  for precision in fp32 auto; do
    "$rtok" train --config configs/demo/train-lora.yaml --set precision="$precision" --set seed="$seed" \
      --set defense.seeds="[$seed]" --resume --out "$results/$precision-seed-$seed"
  done
  "$rtok" eval-features --config configs/demo/eval-features.yaml --set precision=fp32 --set 'threats=[adaptive]' --set sanity.images=0 \
    --set "defense=[$results/fp32-seed-$seed,$results/auto-seed-$seed]" --resume --out "$results/eval-$seed"
done
${PYTHON:-.venv/bin/python} -m benchmarks.trainings "$results" --compare fp32
