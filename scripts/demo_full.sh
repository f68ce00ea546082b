#!/usr/bin/env bash
# The demo's two defenses, trained for longer, against attackers at full strength: 100 steps of Auto-PGD.
# The README and docs/defenses.md have the numbers. Needs the backbone of `make demo`.
set -euo pipefail
rtok=${RTOK:-.venv/bin/rtok}
results=results/demo-full

"$rtok" train --config configs/demo/train.yaml --set train.steps=100 --resume --out "$results/tokens"
"$rtok" train --config configs/demo/train-lora.yaml --set train.steps=150 --set train.warmup_steps=20 --resume --out "$results/lora"
"$rtok" eval-features --config configs/demo/eval-full.yaml --resume
