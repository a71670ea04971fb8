#!/usr/bin/env bash
# Compares scaling policies in simulations and judges the goals: first what each mechanism
# of automatic mode is worth, then the standard loads, the adverse scenarios and other
# engines. Writes simulation.html and simulation.json into the folder that is given, and
# ends with lines "figure NAME VALUE". What was interrupted goes on the next time.
#
# TRACES names a folder with Azure's traces of 2023, which are published on
# GitHub in Azure/AzurePublicDataset: AzureLLMInferenceTrace_conv.csv and
# AzureLLMInferenceTrace_code.csv. Without it the loads on them are left out.
# SEEDS=1 PARTS=standard is a quick look; ABLATION=no leaves the mechanisms out.
set -euo pipefail
cd "$(dirname "$0")/.."

into=$1
args=(--seeds "${SEEDS:-5}")
if [ -n "${TRACES:-}" ]; then
    args+=(--traces "${TRACES}")
fi
if [ -n "${PARTS:-}" ]; then
    args+=(--parts "${PARTS}")
fi
if [ -n "${SCENARIOS:-}" ]; then
    args+=(--scenarios "${SCENARIOS}")
fi
if [ "${ABLATION:-}" != no ] && [ -z "${PARTS:-}${SCENARIOS:-}" ]; then
    go run ./test/ablation -into "${into}/ablation" -seeds "${SEEDS:-5}" -traces "${TRACES:-}"
    args+=(--ablations "${into}/ablation")
fi
go build -trimpath -o bin/ ./cmd/keda-kaito-scaler
exec bin/keda-kaito-scaler simulate report --into "${into}" "${args[@]}"
