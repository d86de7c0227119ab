#!/usr/bin/env bash
# Sets up everything twoview needs: Debian packages, .venv, the pinned Python packages. Run again, it changes nothing.
set -euo pipefail
cd "$(dirname "$0")"

stamp=.venv/installed-from
wanted=$(cat setup.sh pyproject.toml requirements.lock | sha256sum)
[ "$(cat $stamp 2>/dev/null)" = "$wanted" ] && exit 0

fail() { echo "setup: $*" >&2; exit 2; }
installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }
offered() { apt-cache show "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

find_python() {
    for candidate in "${PYTHON:-}" python3.12 python3.11 python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

# ffcv compiles against OpenCV and libturbojpeg; Fashion-MNIST is the embedded data.
packages=(libopencv-dev libturbojpeg0-dev pkg-config g++ dataset-fashion-mnist)
python=$(find_python)
case "$python" in
    "") packages+=(python3 python3-dev python3-venv) ;;
    /usr/bin/*) # Debian's own Python has its headers and venv in packages of their own
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        packages+=("python$version-dev" "python$version-venv")
        ;;
esac

absent=()
for package in "${packages[@]}"; do installed "$package" || absent+=("$package"); done
if [ ${#absent[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || fail "install what these Debian packages hold, then run again: ${absent[*]}"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || fail "ask an administrator for these Debian packages: ${absent[*]}"
    as_root apt-get update -qq || fail "apt-get update failed; these Debian packages are needed: ${absent[*]}"
    for i in "${!absent[@]}"; do
        # Where the data package is not to be had, torchvision downloads the same files.
        if [ "${absent[i]}" = dataset-fashion-mnist ] && ! offered dataset-fashion-mnist; then unset "absent[i]"; fi
    done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${absent[@]}" >/dev/null \
        || fail "apt-get could not install ${absent[*]}"
fi

python=$(find_python)
[ -n "$python" ] || fail "twoview needs Python 3.11 or 3.12: install one, or name it with PYTHON=/path/to/python"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint requirements.lock --editable '.[test]'
echo "$wanted" > $stamp
