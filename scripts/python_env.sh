# Sourced: python_env, which makes .venv with the packages that the tests' oracles and clients need.
# A stamp keeps the list that was installed: the same list again costs nothing.
python_env() {
  local list=scripts/requirements.txt stamp=.venv/installed.txt
  cmp -s "$list" "$stamp" && return
  say "Making the tests' Python environment (.venv)"
  [[ -x .venv/bin/python ]] || python3 -m venv .venv || fail "could not make .venv: is python3-venv installed?"
  quietly build/log/python .venv/bin/python -m pip install --disable-pip-version-check -r "$list" ||
    fail "'pip install' failed: making .venv needs the network (the Python package registry)."
  cp "$list" "$stamp"
}
