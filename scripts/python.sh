# Sourced by the scripts that may have to install: sets $root, makes or updates .venv from the lock file $lock.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
for python in python3 python3.14 python3.13 python3.12 python3.11 python; do
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && break
    python=
done
if [ -z "$python" ]; then
    echo "Python 3.11 to 3.14 is needed and none is on PATH: install it, for example from https://www.python.org." >&2
    exit 1
fi
"$python" -I "$root/scripts/localstack/install.py" "$lock" || exit
