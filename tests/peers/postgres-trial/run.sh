#!/bin/sh
# Tries the promises on PostgreSQL: sh tests/peers/postgres-trial/run.sh [part ...]
#
# Needs PostgreSQL's server programs (apt-get install postgresql) and Python 3.9 or newer; psycopg is installed into a
# temporary environment of its own. The server is started in a temporary directory, on a socket, and stopped at the end.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
environment="$(mktemp -d)"
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9'
PYTHONDONTWRITEBYTECODE=1 "$environment/bin/python" "$here/trial.py" "$@"
