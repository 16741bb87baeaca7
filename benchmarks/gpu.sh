#!/bin/sh
# What a GPU is wanted for, in the order of importance, each part with its own time limit; results go to a folder.
#
#   sh benchmarks/gpu.sh OUT                     all of it, about 25 minutes on an H200
#   sh benchmarks/gpu.sh OUT check first         some parts: check first table tune peer train
#   DEVICE=cpu sh benchmarks/gpu.sh OUT          a rehearsal on tiny shapes, kernels interpreted
#
# PYTHON is wmkit's Python (python3 by default). WMKIT_PEER_PYTHON, a Python with stable-worldmodel, adds the ratios.
set -u
OUT=${1:?give a folder for the results}
shift
PARTS=${*:-check first table tune peer train}
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
WMKIT="$PYTHON -m wmkit.scripts.main"
mkdir -p "$OUT"
FUSED="benchmarks/fused.py --device $DEVICE"
SMALL=""
if [ "$DEVICE" = cpu ]; then
    FUSED="$FUSED --rehearse"
    SMALL="--rounds 1 --threads 1"
    export TRITON_INTERPRET=1
fi
PEER=""
[ -n "${WMKIT_PEER_PYTHON:-}" ] && PEER="--peer stable-worldmodel"

run() {
    seconds=$1 name=$2
    shift 2
    echo "== $name"
    timeout "$seconds" "$@" >"$OUT/$name.log" 2>&1
    echo "== $name ended with $?"
    tail -n 15 "$OUT/$name.log"
}

for part in $PARTS; do
    case $part in
    check) run 240 check $PYTHON -m pytest -q tests/models/fused tests/planners/test_graphs.py -k "gpu or cuda or fails_leaves" ;;
    first) run 300 first $PYTHON $FUSED --networks lewm --batches 1 --ways "fused graph" graph eager fused --out "$OUT/fused_first.json" ;;
    table) run 570 table $PYTHON $FUSED --out "$OUT/fused.json" ;;
    tune) run 200 tune $WMKIT bench plan pretrained:pusht-tiny --device "$DEVICE" --deadline-ms 30 --out "$OUT/tuned.json" ;;
    peer)
        if [ "$DEVICE" = cpu ]; then
            run 300 peer $WMKIT bench plan $SMALL $PEER --samples 16 --iterations 1 --elites 4 --out "$OUT/bench_plan.json"
        else
            run 300 peer $WMKIT bench plan --device cuda --paths fused fast fast-eager $PEER --out "$OUT/bench_plan.json"
        fi
        ;;
    train)
        if [ "$DEVICE" = cpu ]; then
            run 300 train $WMKIT bench train $SMALL --batch 2 $PEER --out "$OUT/bench_train.json"
        else
            run 400 train $WMKIT bench train --device cuda --preset paper --batch 128 --ways eager compiled $PEER --out "$OUT/bench_train.json"
        fi
        ;;
    *) echo "unknown part $part; known: check first table tune peer train" && exit 2 ;;
    esac
done
