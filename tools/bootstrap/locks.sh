#!/usr/bin/env bash
# Resolves 3rdparty/python/*.in again into the hashed locks beside them.
#
# Usage: tools/bootstrap/locks.sh [pip-compile arguments, such as --upgrade or --upgrade-package NAME]
# The locks name neither indexes nor hosts, so they serve any mirror.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root/3rdparty/python"

compile() {
    CUSTOM_COMPILE_COMMAND="make locks" "$root/.venv/bin/pip-compile" --quiet --generate-hashes --strip-extras --allow-unsafe \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --annotation-style=line "$@"
}

# Each lock constrains the next, so that all of them fit into one environment.
compile "$@" --output-file default.lock requirements.in stubs.in tests.in
compile "$@" --output-file lint.lock lint.in
compile "$@" --output-file tools.lock tools.in
compile "$@" --output-file pytest.lock pytest.in
compile "$@" --output-file browser.lock browser.in
compile "$@" --output-file docs.lock docs.in

# These are taken without their requirements, which pip-compile cannot express.
downloads="$(mktemp -d)"
trap 'rm -rf "$downloads"' EXIT
{
    echo "# Made by make locks from data.in; installed with --no-deps."
    while read -r requirement; do
        "$root/.venv/bin/python" -m pip download --quiet --no-deps --dest "$downloads" "$requirement" >&2
        echo "$requirement \\"
        "$root/.venv/bin/python" -m pip hash "$downloads"/*.whl | sed -n 's/^--hash/    --hash/p'
        rm "$downloads"/*.whl
    done < <(grep -v '^#' data.in)
} >data.lock
