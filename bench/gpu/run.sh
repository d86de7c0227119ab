#!/usr/bin/env bash
# Part @part@ of `twoview suite gpu`, on a machine without a network: nothing is installed, and nobody needs to be root.
#
#     bash run.sh [MINUTES] [OPTIONS of `twoview suite gpu`]       MINUTES of the suite, @minutes@ by default
#
# Environment variables:
# OUT            the folder for what is kept: log-@part@.txt, written as it goes, and records-@part@.tar.gz, written anew
#                after every step; by default the current folder.
# TWOVIEW_WORK   the folder for all else: the tree, compiled kernels, records; by default /tmp/twoview-gpu. Part b goes
#                on where part a ended if both have the same.
# TWOVIEW_DATA   your data root. Where it has no CIFAR-10 and the bundle has, that becomes a data root in its place.
#
# It ends with the suite's exit code; with 2 before the suite begins if anything is absent.
set -euo pipefail
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-$PWD}
mkdir -p "$out"
out=$(cd "$out" && pwd)
shared=${TWOVIEW_WORK:-/tmp/twoview-gpu}
mkdir -p "$shared"
shared=$(cd "$shared" && pwd)
# A folder for each tree, so that neither records nor kernels of another one are taken for its own.
work=$shared/$(sha256sum <"$here/twoview.tar.gz" | cut -c 1-12)
mkdir -p "$work"
minutes=@minutes@
if [[ ${1:-} =~ ^[0-9] ]]; then
    minutes=$1
    shift
fi

suite() {
    python3 -m bench suite gpu --out "$work/out" "$@"
}

run() {
    # The files keep their times: Numba takes a compiled kernel for an old one if its source's time differs.
    tar -xzf "$here/twoview.tar.gz" -C "$work" --no-same-owner
    cd "$work/twoview"
    for wheel in "$here"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$work/packages"
    done
    export PYTHONPATH=$work/twoview:$work/packages${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
    export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    # Torch's compilers name what they keep by its content, so all trees share it, and CIFAR-10.
    export TORCHINDUCTOR_CACHE_DIR=$shared/inductor TRITON_CACHE_DIR=$shared/triton
    brought=
    if [ -d "$here/cifar10" ] && ! [ -d "${TWOVIEW_DATA:-}/cifar-10-batches-py" ]; then
        export TWOVIEW_DATA=$shared/data
        mkdir -p "$TWOVIEW_DATA"
        brought=yes
    fi
    suite --check "$@"
    if [ -n "$brought" ]; then
        # If that fails it says why, and all else can be measured.
        python3 -m bench.gpu.packed_cifar "$here/cifar10" "$TWOVIEW_DATA" || true
    fi
    suite --minutes "$minutes" @only@--no-report --pack "$out/records-@part@.tar.gz" "$@"
}

run "$@" 2>&1 | tee -ia "$out/log-@part@.txt"
