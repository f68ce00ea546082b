#!/usr/bin/env bash
# The tables of docs/defenses.md: defenses trained on the same photos with the same number of gradients, and attacked at
# full strength. Needs the backbone of `make demo`; four hours on one core. A step that is finished is not done again:
#   scripts/defenses_table.sh [STEP...]   every step without arguments; they stand below
set -euo pipefail
rtok=${RTOK:-.venv/bin/rtok}
results=${RESULTS:-results/defenses}
against_itself=(--config configs/demo/train-lora.yaml --set train.steps=150 --set train.warmup_steps=20)

train() {  # NAME ARGUMENT...
  "$rtok" train "${@:2}" --resume --out "$results/$1"
}

lora() {  # NAME RANK SEED ARGUMENT...
  train "$1" "${against_itself[@]}" --set defense.rank="$2" --set seed="$3" --set defense.seeds="[$3]" "${@:4}"
}

evaluate() {  # NAME DEFENSES ARGUMENT...
  local defenses
  defenses=$(printf ",$results/%s" $2)
  "$rtok" eval-features --config configs/demo/eval-full.yaml --set precision=auto \
    --set defense="[${defenses:1}]" "${@:3}" --resume --out "$results/$1"
}

seeds="lora-8-seed-1 lora-8-seed-2"
others="tokens-paper tokens deep-tokens lora-2 lora-32 weights"
every="lora-8 $others"
unchecked=(--set sanity.images=0)
white_box=(--set 'threats=[transfer, adaptive]')
variants() {  # CHANGE: what the variant on all features changes
  echo "attack.variants=[{${1-}}, {init: transfer}, {features: cls}, {layer: 0.5}]"
}

step() {
  case $1 in
    tokens-paper) train "$1" --config configs/demo/train.yaml --set train.steps=150 ;;
    tokens) train "$1" "${against_itself[@]}" --set 'defense={kind: tokens}' --set train.lr=5e-3 ;;
    deep-tokens) train "$1" "${against_itself[@]}" --set 'defense={kind: deep-tokens}' --set train.lr=5e-3 ;;
    lora-2) lora "$1" 2 0 ;;
    lora-8) lora "$1" 8 0 ;;
    lora-8-seed-1) lora "$1" 8 1 ;;
    lora-8-seed-2) lora "$1" 8 2 ;;
    lora-32) lora "$1" 32 0 ;;
    weights) train "$1" "${against_itself[@]}" --set 'defense={kind: weights}' --set train.lr=1e-5 ;;
    lora-8-no-ramp) lora "$1" 8 0 --set train.eps_schedule=null ;;
    lora-8-invariance-0.3) lora "$1" 8 0 --set train.invariance_weight=0.3 ;;
    lora-8-invariance-3) lora "$1" 8 0 --set train.invariance_weight=3 ;;
    eval-kinds) evaluate "$1" "$every" "${unchecked[@]}" --set extracted.steps=60 ;;
    eval-per-image) evaluate "$1" tokens-paper "${unchecked[@]}" --set 'extracted={queries_per_image: 2}' ;;
    eval-ensemble-kinds) evaluate "$1" "$others" "${unchecked[@]}" "${white_box[@]}" --set "$(variants)" ;;
    eval-restarts) evaluate "$1" lora-32 "${unchecked[@]}" "${white_box[@]}" --set attack.restarts=5 ;;
    eval-strongest) evaluate "$1" "tokens-paper lora-8" "${unchecked[@]}" --set "$(variants "restarts: 5")" ;;
    eval-strongest-seeds) evaluate "$1" "lora-8 $seeds" "${unchecked[@]}" "${white_box[@]}" --set "$(variants "restarts: 5")" ;;
    eval-checked) evaluate "$1" "lora-8 $seeds" "${white_box[@]}" ;;
    eval-1 | eval-2 | eval-4)
      evaluate "$1" lora-8 "${unchecked[@]}" "${white_box[@]}" --set attack.units=pixel --set attack.eps="${1#eval-}/255" ;;
    eval-changes)
      evaluate "$1" "lora-8 lora-8-no-ramp lora-8-invariance-0.3 lora-8-invariance-3" "${unchecked[@]}" "${white_box[@]}" ;;
    *) echo "no step $1" >&2; exit 2 ;;
  esac
}

for name in ${*:-$every $seeds lora-8-no-ramp lora-8-invariance-0.3 lora-8-invariance-3 eval-kinds eval-per-image eval-ensemble-kinds \
  eval-restarts eval-strongest eval-strongest-seeds eval-checked eval-1 eval-2 eval-4 eval-changes}; do
  step "$name"
done
