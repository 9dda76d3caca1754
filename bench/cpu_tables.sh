#!/usr/bin/env bash
# Measures the rows of bench/cpu.md on this machine, ours and the peers in turn, and prints them as Markdown.
# cpu_tables.sh [ROW...]     without rows: all, about half an hour on two cores with nothing else running
# Each row's figures stay in build/bench/ROW.jsonl; `cpu_tables.sh print` prints what is there and measures nothing.
# From the environment: PAIRS (5), THREADS (2), TROUPE, and PEERS, the folder with the peers' builds and synthetic models.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pairs=${PAIRS:-5} threads=${THREADS:-2} troupe=${TROUPE:-build/release/troupe}
peers=${PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/troupe-peers}
default_model=${XDG_CACHE_HOME:-$HOME/.cache}/troupe/models/smollm2-135m-instruct.gguf
python=.venv/bin/python out=build/bench
mkdir -p "$out" "$peers/models"

llama=$peers/llama.cpp/build/bin/llama-bench
ik=$peers/ik_llama.cpp/build/bin/llama-bench
avx2=$peers/llama.cpp-avx2/build/bin/llama-bench
to_llama=(--peer "llama.cpp=$llama" --peer-args "llama.cpp=-fa 1" --peer-batch-args "llama.cpp=-fa on")
to_ik=(--peer "ik_llama.cpp=$ik" --peer-args "ik_llama.cpp=-fa 1 -rtr 1" --peer-batch-args "ik_llama.cpp=-fa on -rtr")
to_both=("${to_llama[@]}" "${to_ik[@]}")
to_either_attention=(--peer "llama.cpp-fa0=$llama" --peer-args "llama.cpp-fa0=-fa 0"
                     --peer "llama.cpp-fa1=$llama" --peer-args "llama.cpp-fa1=-fa 1")
to_avx2=(--peer "llama.cpp-avx2=$avx2" --peer-args "-fa 1")

bench() {
  "$troupe" bench --json --pairs "$pairs" -r "${repeat:-2}" -t "${team:-$threads}" "$@" || echo "not every program ran" >&2
}
decode() { bench -p 0 -n "${tokens:-64}" "$@"; }
prefill() { bench -p 512 -n 0 "$@"; }

# The path of a synthetic model; made when it is not there.
model() {
  local path=$peers/models/$1-$2.gguf
  [[ -f $path ]] || "$python" bench/synthetic_gguf.py "$1" "$2" "$path" >&2
  echo "$path"
}

declare -A measure=(
  [decode-default]='decode -m "$default_model" "${to_both[@]}"'
  [decode-default-1-thread]='team=1 decode -m "$default_model" "${to_both[@]}"'
  [decode-qwen-q8_0]='decode -m "$(model qwen-0.6b q8_0)" "${to_both[@]}"'
  [decode-qwen-q4_0]='decode -m "$(model qwen-0.6b q4_0)" "${to_both[@]}"'
  [prefill-default]='prefill -m "$default_model" "${to_both[@]}"'
  [prefill-qwen-q8_0]='prefill -m "$(model qwen-0.6b q8_0)" "${to_both[@]}"'
  [prefill-qwen-q4_0]='prefill -m "$(model qwen-0.6b q4_0)" "${to_both[@]}"'
  [prefill-llama-bf16]='prefill -m "$(model llama-1b bf16)" "${to_both[@]}"'
  [batch-default]='decode -m "$default_model" -b 1,8,16,32 "${to_both[@]}"'
  [depth-default]='repeat=1 tokens=32 decode -d 4096 -m "$default_model" "${to_either_attention[@]}";
    pairs=$((pairs < 3 ? pairs : 3)) repeat=1 tokens=16 decode -d 8192 -m "$default_model" "${to_either_attention[@]}"'
  [decode-llama-q4_k]='tokens=32 decode -m "$(model llama-1b q4_k)" "${to_both[@]}"'
  [decode-llama-q6_k]='tokens=32 decode -m "$(model llama-1b q6_k)" "${to_both[@]}"'
  [prefill-llama-q4_k]='prefill -m "$(model llama-1b q4_k)" "${to_both[@]}"'
  [prefill-llama-q6_k]='prefill -m "$(model llama-1b q6_k)" "${to_both[@]}"'
  [decode-avx2]='decode --isa avx2 -m "$default_model" "${to_avx2[@]}"'
  [prefill-avx2]='prefill --isa avx2 -m "$default_model" "${to_avx2[@]}"'
  [first-token]='"$python" bench/first_token.py --troupe "$troupe" --pairs "$pairs" "$default_model" "$(model qwen-0.6b q8_0)"'
  [server-streams]='"$python" bench/server_streams.py --troupe "$troupe" --pairs "$pairs"'
)
rows=(decode-default decode-default-1-thread decode-qwen-q8_0 decode-qwen-q4_0 prefill-default prefill-qwen-q8_0 prefill-qwen-q4_0
      prefill-llama-bf16 batch-default depth-default decode-llama-q4_k decode-llama-q6_k prefill-llama-q4_k prefill-llama-q6_k
      decode-avx2 prefill-avx2 first-token server-streams)

wanted=("$@")
[[ $# -gt 0 ]] || wanted=("${rows[@]}")
[[ ${1:-} != print ]] || wanted=()
for row in "${wanted[@]}"; do
  [[ -n ${measure[$row]:-} ]] || { echo "no row \"$row\"; there are: ${rows[*]}" >&2; exit 1; }
done
for row in "${wanted[@]}"; do
  echo "$row: ${measure[$row]}" >&2
  eval "${measure[$row]}" >"$out/$row.jsonl.part"
  mv "$out/$row.jsonl.part" "$out/$row.jsonl"
done
for i in "${!rows[@]}"; do rows[i]=$out/${rows[i]}.jsonl; done
"$python" bench/rows_to_markdown.py "${rows[@]}"
