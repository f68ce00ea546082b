#!/usr/bin/env bash
# The tables of docs/scaling.md on cheap attacks in training: the demo's LoRA, trained for its 45 updates at 56 px against
# attacks of 1 to 30 steps and against cheaper ones, and attacked at full strength; and the paper's tokens, trained for 100
# updates. Needs the backbone of `make demo`; about two hours on one core. A run that is finished is not done again.
#   scripts/fewer_steps.sh [SEED...]   0 1 2 without arguments
set -euo pipefail
rtok=${RTOK:-.venv/bin/rtok}
results=${RESULTS:-results/fewer-steps}
size=(--set model.image_size=56)
ours=(--plugin benchmarks/cheap_attacks.py)
in_its_ball='units: normalized, quantize: none'  # as the demo's attack

train() {  # CONFIG FOLDER NAME SEED ARGUMENT...
  "$rtok" train --config "configs/demo/$1" "${size[@]}" --set seed="$4" --set defense.seeds="[$4]" "${@:5}" --resume --out "$2/$3-seed-$4"
}
lora() { train train-lora.yaml "$results" "$@"; }  # NAME SEED ARGUMENT...
tokens() { train train.yaml "$results-tokens" "$@" --set train.steps=100; }  # NAME SEED ARGUMENT...

evaluate() {  # FOLDER SEED THREAT
  local defenses; defenses=$(printf ",%s" "$1"/*-seed-"$2")
  "$rtok" eval-features --config configs/demo/eval-full.yaml "${size[@]}" --set precision=auto --set attack.steps=50 \
    --set "defense=[${defenses:1}]" --set "threats=[$3]" --set sanity.images=0 --resume --out "$1/eval-$2"
}

compare() {  # FOLDER ARGUMENT...
  ${PYTHON:-.venv/bin/python} -m benchmarks.trainings "$@" --compare pgd-30 pgd-10
}

for seed in ${*:-0 1 2}; do
  # one step: of 1.25 radii from a uniform start (Wong et al., 2020)
  one=(--set attack.steps=1 --set attack.init=uniform --set attack.step=10/255)
  lora pgd-1 "$seed" "${one[@]}"
  # the same, from the last visit's perturbation
  lora warm-1 "$seed" "${ours[@]}" --set "attack={method: warm-pgd, $in_its_ball, steps: 1, step: 10/255}"
  # of one radius from noise of two, in a ball of three
  lora n-fgsm "$seed" "${ours[@]}" --set "attack={method: n-fgsm, $in_its_ball}"
  for steps in 3 5 10 30; do
    lora "pgd-$steps" "$seed" --set attack.steps="$steps"  # of the paper's size, a third of the radius
  done
  # like pgd-10, with the second to the seventh step on half of the patches
  lora patches-10 "$seed" "${ours[@]}" --set "attack={method: fewer-patches, $in_its_ball, step: 0.01, steps: 10, early: 6}"
  # of half a radius from a uniform start, as in the ready configs `robust-lora-MODEL`
  long=(--set "attack={$in_its_ball, step: 4/255, steps: 3}")
  lora long-3 "$seed" "${long[@]}"
  lora long-5 "$seed" "${long[@]}" --set attack.steps=5
  # cheap attacks with less weight on clean features, which trades fidelity for robustness too
  lora long-3-weight-0.3 "$seed" "${long[@]}" --set train.invariance_weight=0.3
  lora pgd-1-weight-0.3 "$seed" "${one[@]}" --set train.invariance_weight=0.3
  evaluate "$results" "$seed" adaptive
  # the paper's tokens, against attacks on the plain model
  tokens pgd-1 "$seed" "${one[@]}"
  tokens n-fgsm "$seed" "${ours[@]}" --set "attack={method: n-fgsm, $in_its_ball}"
  for steps in 3 5 10 30; do
    tokens "pgd-$steps" "$seed" --set attack.steps="$steps"
  done
  evaluate "$results-tokens" "$seed" transfer
done
compare "$results"
compare "$results-tokens" --threat transfer
