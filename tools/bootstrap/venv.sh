#!/usr/bin/env bash
# Makes .venv match the hashed locks in 3rdparty/python; does nothing when it already does.
#
# Usage: tools/bootstrap/venv.sh
# PYTHON311 names the interpreter; without it, the first CPython 3.11 on PATH or of pyenv is taken.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root"
locks=(3rdparty/python/default.lock 3rdparty/python/lint.lock 3rdparty/python/tools.lock)
data_lock=3rdparty/python/data.lock
venv="$root/.venv"
stamp="$venv/.locks-installed"

usable() {
    "$1" -c 'import ensurepip, ssl, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in "${PYTHON311:-}" python3.11 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11.*/bin/python3.11 python3; do
        if [[ -n "$candidate" ]] && usable "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "No CPython 3.11 with venv was found: install it (Debian: python3.11-venv), or name it in PYTHON311." >&2
    return 1
}

wanted_state() {
    echo "root $root"
    sha256sum "${locks[@]}" "$data_lock" tools/bootstrap/venv.sh
}

up_to_date() {
    [[ -x "$venv/bin/python" && -f "$stamp" ]] && [[ "$(wanted_state)" == "$(cat "$stamp")" ]]
}

if up_to_date; then
    exit 0
fi

# Two `make` at once must not install over each other; the second one finds the work done.
exec 9>"$root/.venv.lock"
flock 9
if up_to_date; then
    exit 0
fi

started=$SECONDS
if ! { [[ -x "$venv/bin/python" ]] && usable "$venv/bin/python"; }; then
    python="$(find_python)"
    echo "Creating .venv with $python ..." >&2
    "$python" -m venv --clear "$venv"
fi
rm -f "$stamp"

# Wheels only, so that no compiler is needed; nkeys is pure Python and has no wheel.
arguments=(--only-binary :all: --no-binary nkeys)
for lock in "${locks[@]}"; do
    arguments+=(--requirement "$lock")
done
# The pinned pip first, so that the rest does not depend on the one that Python brought.
pip_lock="$venv/pip.lock"
awk '/^[a-z]/ { wanted = /^pip==/ } wanted' 3rdparty/python/tools.lock >"$pip_lock"
install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes "$@"
}
install --requirement "$pip_lock"

echo "Installing the locked requirements into .venv (about a minute the first time) ..." >&2
install "${arguments[@]}"
install --no-deps --only-binary :all: --requirement "$data_lock"

# The repository's import roots, so that no command needs PYTHONPATH.
site_packages="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
printf '%s\n%s\n' "$root" "$root/proto" >"$site_packages/ome-repository.pth"

wanted_state >"$stamp"
echo ".venv is ready after $((SECONDS - started)) s." >&2
