#!/usr/bin/env bash
# Makes the bundle for a GPU machine without a network and runs both of its scripts here, on the CPU at tiny scale, in an
# environment like that machine's: its packages, no network, no libturbojpeg, no checkout. Then checks the results.
#
#     tests/gpu_rehearsal.sh            the logs, the records and their page stay in out/gpu-rehearsal
#
# Environment variables:
# PYTHON312          a Python 3.12; by default python3.12.
# TWOVIEW_NODE_ENV   a virtual environment with the packages of bench/suites/gpu/node.txt, used as it is; by default
#                    out/gpu-node-env, which is made (7 GB) if it is missing or was made from another list.
# TWOVIEW_DATA       a data root; if it has CIFAR-10, that part is rehearsed, too.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "gpu-rehearsal: $*" >&2
    exit 1
}

make_environment() {
    local python=${PYTHON312:-python3.12} list
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null \
        || fail "it needs Python 3.12, which $python is not: name one with PYTHON312"
    list=$(sed -E '/^(#|python==|$)/d; s/\+.*//' bench/suites/gpu/node.txt) # a local version, +cu130, is in no registry
    [ "$(cat "$1/made-of" 2>/dev/null)" = "$list" ] && return
    rm -rf "$1"
    "$python" -m venv "$1"
    "$1/bin/python3" -m pip install --quiet --disable-pip-version-check $list
    echo "$list" >"$1/made-of"
}

unshare -r -m -n true 2>/dev/null || fail "this system does not allow user namespaces (unshare -r -m -n)"
environment=${TWOVIEW_NODE_ENV:-out/gpu-node-env}
[ -n "${TWOVIEW_NODE_ENV:-}" ] || make_environment "$environment"
[ -x "$environment/bin/python3" ] || fail "$environment is not a virtual environment"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
kept=$PWD/out/gpu-rehearsal
rm -rf "$kept"
mkdir -p "$kept" "$scratch"/{env,changed,overlay,home,tmp,kept,elsewhere}
.venv/bin/twoview suite gpu --bundle "$scratch/brought"

unshare -r -m -n bash -euo pipefail -s -- "$scratch" "$(realpath "$environment")" "$PWD" "$kept" <<'INSIDE' \
    || fail "no machine like the node could be made"
scratch=$1 environment=$2 checkout=$3 kept=$4

# The environment lacks what the bundle brings, even where pip installed it along with something else.
layers="lowerdir=$environment,upperdir=$scratch/changed,workdir=$scratch/overlay"
mount -t overlay overlay -o "userxattr,$layers" "$scratch/env"
for wheel in "$scratch"/brought/a/wheels/*.whl; do
    name=$(basename "$wheel" | cut -d - -f 1)
    "$scratch/env/bin/python3" -m pip uninstall --quiet --quiet --yes "$name"
done

# Hides libturbojpeg from the linker and the dynamic loader, whose cache no longer lists it.
for library in $(find /usr/lib* /usr/local/lib* -name 'libturbojpeg*' -type f); do
    mount --bind /dev/null "$library"
done
PATH=$PATH:/sbin:/usr/sbin ldconfig -C "$scratch/ld.so.cache" 2>/dev/null
mount --bind "$scratch/ld.so.cache" /etc/ld.so.cache

mount --bind "$kept" "$scratch/kept"
cd "$scratch/elsewhere"
mount -t tmpfs tmpfs "$checkout"

on_the_node() {
    env -i PATH="$scratch/env/bin:/usr/bin:/bin" HOME="$scratch/home" TMPDIR="$scratch/tmp" LANG=C.UTF-8 \
        OUT="$scratch/kept" TWOVIEW_WORK="$scratch/work" "$@"
}
on_the_node python3 -c 'import ctypes; ctypes.CDLL("libturbojpeg.so.0")' 2>/dev/null && exit 1
for part in a b; do
    begun=$SECONDS code=0
    on_the_node bash "$scratch/brought/$part/run.sh" 10 --device cpu --scale tiny || code=$?
    echo "$((SECONDS - begun)) seconds, exit code $code" >"$scratch/kept/ended-$part.txt"
done
INSIDE

[ -f "$kept/records-b.tar.gz" ] || fail "part b left no records: see $kept/log-b.txt"
mkdir "$kept/evidence"
tar -xzf "$kept/records-b.tar.gz" -C "$kept/evidence"
.venv/bin/twoview report "$kept/evidence" --out "$kept/report" >"$kept/report.txt"
.venv/bin/python - "$kept" "$scratch/brought" <<'CHECK'
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from twoview.bench import evidence
from twoview.bench.suites.gpu.suite import FIRST, all_steps

kept, brought = map(Path, sys.argv[1:])
log = "".join((kept / f"log-{part}.txt").read_text() for part in "ab")
ended = {part: (kept / f"ended-{part}.txt").read_text().strip() for part in "ab"}
head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
planned = {step.name for step in all_steps()}
records = {record.name: record for record in map(evidence.read, evidence.paths(kept / "evidence"))}
missing = planned - records.keys()
skipped = set()
if not (brought / "a" / "cifar10").exists():
    skipped = {name for name in missing if re.search(rf"\] {name}: skipped after .*cifar10 needs", log)}
with tarfile.open(kept / "records-a.tar.gz") as archive:
    first = {Path(name).stem for name in archive.getnames()}

wrong = [f"part {part} ended after {words}" for part, words in ended.items() if not words.endswith(" 0")]
wrong += [f"{name} has no record" for name in sorted(missing - skipped)]
wrong += [f"part a left no record of {name}" for name in FIRST if name not in first]
for name, record in records.items():
    if record.stopped:
        wrong.append(f"{name} stopped: {record.stopped}")
    if record.environment.commit != head:
        wrong.append(f"{name} is of commit {record.environment.commit or 'none'}")
    wrong += [f"{name}: {figure.note}" for figure in record.figures if figure.note.startswith("absent")]
if not (kept / "report" / "index.html").exists():
    wrong.append("the report has no page")
if wrong:
    sys.exit(f"gpu-rehearsal: {'; '.join(wrong)}")

print(f"commit {head}: {len(records)} of {len(planned)} steps left their records, none stopped, and the report was written")
if skipped:
    print(f"skipped, because the data root has no CIFAR-10: {', '.join(sorted(skipped))}")
else:
    print("CIFAR-10 was unpacked from both parts")
for part in "ab":
    size = sum(path.stat().st_size for path in (brought / part).rglob("*") if path.is_file()) / 2**20
    print(f"part {part}: {size:.1f} MiB, {ended[part]}")
CHECK
