#!/usr/bin/env bash
# Compares the scaling policies in simulations and judges the goals. Writes
# simulation.html and simulation.json into the folder that is given, anew after
# each load of a seed, and ends with lines "figure NAME VALUE".
#
# TRACES names a folder with Azure's traces of 2023, which are published on
# GitHub in Azure/AzurePublicDataset: AzureLLMInferenceTrace_conv.csv and
# AzureLLMInferenceTrace_code.csv. Without it the loads on them are left out.
# SEEDS=1 SWEEP_SEEDS=0 is a quick look, RESUME=1 goes on from where the last one
# was interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."

args=(--into "$1" --seeds "${SEEDS:-5}" --sweep-seeds "${SWEEP_SEEDS:-1}" --cold-starts "${COLD_STARTS:-2m,5m,10m}")
if [ -n "${TRACES:-}" ]; then
    args+=(--traces "${TRACES}")
fi
if [ -n "${SCENARIOS:-}" ]; then
    args+=(--scenarios "${SCENARIOS}")
fi
if [ -n "${RESUME:-}" ]; then
    args+=(--resume)
fi
go build -trimpath -o bin/ ./cmd/keda-kaito-scaler
exec bin/keda-kaito-scaler simulate report "${args[@]}"
