#!/bin/sh
# run_with_server.sh TROUPE MODEL CLIENT: starts a server on a free port, runs CLIENT with that port, ends the server.
set -eu
said=$(mktemp)
"$1" serve --port 0 --model "$2" >"$said" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -f "$said"' EXIT
for _ in $(seq 100); do
  port=$(sed -n 's|.*http://127\.0\.0\.1:\([0-9]*\)/.*|\1|p' "$said" | head -n 1)
  [ -z "$port" ] || break
  kill -0 "$server" || { cat "$said"; exit 1; }
  sleep 0.1
done
"$3" "$port"
