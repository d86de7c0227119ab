#!/usr/bin/env bash
# Part @part@ of `twoview suite gpu`, on a machine without a network: nothing is installed, and nobody needs to be root.
#
#     bash run.sh [MINUTES] [OPTIONS of `twoview suite gpu`]       MINUTES of the suite, @minutes@ by default
#
# Environment variables:
# OUT            the folder for what is kept: log-@part@.txt, written as it goes, and records-@part@.tar.gz, written anew
#                with every new figure; by default the current folder.
# TWOVIEW_WORK   the folder for all else: the tree, compiled kernels, records; by default /tmp/twoview-gpu. Part b goes
#                on where part a ended if both have the same.
# TWOVIEW_DATA   your data root. Where it has no CIFAR-10 and the bundle has, that becomes a data root in its place.
#
# It ends with the suite's exit code; with 2 before the suite begins if anything is absent.
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
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "it needs a python3 on the PATH"
[ "$version" = "@python@" ] || fail "the bundle is for Python @python@, and python3 is $version: make it with --node"
out=${OUT:-$PWD} shared=${TWOVIEW_WORK:-/tmp/twoview-gpu}
for folder in "$out" "$shared"; do
    mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] || fail "$folder must be a folder that can be written"
done
out=$(cd "$out" && pwd) shared=$(cd "$shared" && pwd)
# A folder for each tree, so that neither records nor kernels of another one are taken for its own.
work=$shared/$(sha256sum <"$here/twoview.tar.gz" | cut -c 1-12)

unpack() {
    # Whole or not at all, and never over what a running suite has in use. The files keep their times: Numba takes a
    # compiled kernel for an old one if its source's time differs.
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
    # Torch's compilers name what they keep by its content, so all trees share it, and CIFAR-10.
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
        # If that fails it says why, and all else can be measured.
        python3 -m twoview.bench.suites.gpu.packed_cifar "$here/cifar10" "$TWOVIEW_DATA" || true
    fi
    exec python3 -m twoview suite gpu --no-report --pack "$out/records-@part@.tar.gz" "$@"
}

exec 3> >(tee -ia "$out/log-@part@.txt")
tee=$!
run "$@" >&3 2>&1 3>&- &
suite=$!
exec 3>&-
trap 'kill -TERM $suite' TERM INT HUP # a suite that goes on by itself would share the GPU with the next one
code=0
wait $suite || code=$?
if kill -0 $suite 2>/dev/null; then # the signal ended the waiting alone
    code=0
    wait $suite || code=$?
fi
for _ in 1 2 3 4 5; do # the log's last lines
    kill -0 $tee 2>/dev/null || break
    sleep 0.2
done
exit $code
