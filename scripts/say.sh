# Sourced: how the scripts talk. Colour only on a terminal; everything goes to stderr, so that stdout stays the program's.
if [[ -t 2 && -z "${NO_COLOR:-}" ]]; then
  bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' red='' plain=''
fi

say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*" >&2; }

fail() {
  printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2
  exit 1
}

# quietly LOG COMMAND...: runs it with its output in LOG; on a terminal one line of progress follows along. On failure
# the log's end is shown and the command's status returned.
quietly() {
  local log=$1 status=0
  shift
  mkdir -p "$(dirname "$log")"
  if [[ -t 2 ]]; then
    "$@" 2>&1 | tee "$log" | while IFS= read -r line; do
      printf '\r\e[K    %s' "${line:0:$(($(tput cols 2>/dev/null || echo 80) - 6))}" >&2
    done || status=$?
    printf '\r\e[K' >&2
  else
    "$@" >"$log" 2>&1 || status=$?
  fi
  if ((status != 0)); then
    tail -n 60 "$log" >&2
    printf 'The whole log: %s\n' "$log" >&2
  fi
  return "$status"
}
