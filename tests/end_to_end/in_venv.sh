#!/usr/bin/env bash
# Runs one of these tests with the tests' own Python, or skips (77) where ./check has not made it.
cd "$(dirname "${BASH_SOURCE[0]}")"
python=../../.venv/bin/python
if [[ ! -x $python ]]; then
  echo "skipped: no .venv; ./check makes it"
  exit 77
fi
exec "$python" "$@"
