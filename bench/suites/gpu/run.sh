#!/usr/bin/env bash
# Part @part@ of `twoview suite gpu` for a machine without a network. It installs nothing and needs no root rights.
#
#     bash run.sh [MINUTES] [OPTIONS of `twoview suite gpu`]     MINUTES: time limit of the suite, by default @minutes@
#
# Environment variables:
# OUT            folder for the results: log-@part@.txt, which grows while the suite runs, and records-@part@.tar.gz,
#                which is rewritten with every new figure; by default the current folder.
# TWOVIEW_WORK   folder for everything else: the code, compiled kernels, records; by default /tmp/twoview-gpu. If both
#                parts use the same folder, part b continues where part a ended.
# TWOVIEW_DATA   your data root. If it has no CIFAR-10 and the bundle has, a data root made of the bundle's CIFAR-10 is
#                used instead.
#
# The exit code is the suite's, or 2 if anything is missing, before the suite begins.
set -euo pipefail
shopt -s nullglob

fail() {
    echo "run.sh: $*" >&2
    exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
minutes=@minutes@
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    [[ $1 =~ ^[0-9]*\.?[0-9]+$ ]] || fail "MINUTES must be a number, got '$1'"
    minutes=$1
    shift
fi
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "python3 must be on the PATH"
[ "$version" = "@python@" ] ||
    fail "the bundle is for Python @python@, and python3 is $version: make another one with --node"
out=${OUT:-$PWD} shared=${TWOVIEW_WORK:-/tmp/twoview-gpu}
for folder in "$out" "$shared"; do
    mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] || fail "$folder must be a writable folder"
done
out=$(cd "$out" && pwd) shared=$(cd "$shared" && pwd)
# Each version of the code has its own folder, so that it never takes the records or kernels of another for its own.
work=$shared/$(sha256sum <"$here/twoview.tar.gz" | cut -c 1-12)

unpack() {
    # Unpack atomically, and never over files that a running suite uses. The files keep their modification
    # times, because Numba discards a compiled kernel if the time of its source has changed.
    [ -d "$work" ] && return
    rm -rf "$work.part"
    mkdir "$work.part"
    tar -xzf "$here/twoview.tar.gz" -C "$work.part" --no-same-owner
    for wheel in "$here"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$work.part/packages"
    done
    mv "$work.part" "$work"
}

run() {
    unpack
    cd "$work/twoview"
    export PYTHONPATH=$work/twoview:$work/packages${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
    export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    # Torch's compilers name their cache entries by content, so all versions of the code share them, and CIFAR-10.
    export TORCHINDUCTOR_CACHE_DIR=$shared/inductor TRITON_CACHE_DIR=$shared/triton
    brought=
    if [ -d "$here/cifar10" ] && ! [ -d "${TWOVIEW_DATA:-}/cifar-10-batches-py" ]; then
        export TWOVIEW_DATA=$shared/data
        mkdir -p "$TWOVIEW_DATA"
        brought=yes
    fi
    set -- --minutes "$minutes" @only@--out "$work/out" "$@"
    python3 -m twoview suite gpu --check "$@"
    if [ -n "$brought" ]; then
        # If this fails it says why, and everything else can still be measured.
        python3 -m twoview.bench.suites.gpu.packed_cifar "$here/cifar10" "$TWOVIEW_DATA" || true
    fi
    exec python3 -m twoview suite gpu --no-report --pack "$out/records-@part@.tar.gz" "$@"
}

exec 3> >(tee -ia "$out/log-@part@.txt")
tee=$!
run "$@" >&3 2>&1 3>&- &
suite=$!
exec 3>&-
trap 'kill -TERM $suite' TERM INT HUP # else the suite would go on and share the GPU with the next one
code=0
wait $suite || code=$?
if kill -0 $suite 2>/dev/null; then # the signal ended only the waiting
    code=0
    wait $suite || code=$?
fi
for _ in 1 2 3 4 5; do # wait until the last lines are in the log
    kill -0 $tee 2>/dev/null || break
    sleep 0.2
done
exit $code
