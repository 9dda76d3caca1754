#!/usr/bin/env python3
"""How well each weight format and KV type computes: a row each, as Markdown.

quality.py [--formats q4_1,q8_0,...] [--kv i16,f16,bf16,q8_0,q4_0] [--quick] [--text FILE] [--peers DIR] [--troupe build/release/troupe]

  agreement, divergence   of the best token, and over the ten best, with the fp32 answers of tests/reference: what the format's
                          own loss and Troupe's arithmetic cost together
  perplexity              of a text; of llama.cpp's llama-perplexity on the same file, text, windows and KV type (for i16, which
                          it does not have, f16); and of Troupe on the file's weights written out as F32, so that
                          nothing but KV is rounded (left out by --quick where it is not known yet). How far the first is from
                          the other two is what Troupe's arithmetic costs; how far the peer is from the third, what its own does
The files are the default model, written anew in each format by llama-quantize; its weights are of 4 bits, so wider formats
lose nothing; the embedding stays in Q8_0. Formats of blocks of 256 fit only its `ffn_down` (1536 wide): llama-quantize puts
others in their place elsewhere.
The text is the help of this Python's own language reference; its hash is printed, since it differs between versions of Python.
What the peer and the exact weights said is kept beside the files, so that only our side runs again.
"""
import argparse
import hashlib
import json
import math
import os
import pathlib
import pydoc_data.topics
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
MODEL = CACHE / "troupe/models/smollm2-135m-instruct.gguf"
# llama-quantize's names. Without --pure its mixtures would put better types where they matter.
FORMATS = {"q4_1": None, "q4_0": "Q4_0", "q5_0": "Q5_0", "q5_1": "Q5_1", "q8_0": "Q8_0", "q2_k": "Q2_K", "q3_k": "Q3_K_S",
           "q4_k": "Q4_K_S", "q5_k": "Q5_K_S", "q6_k": "Q6_K", "iq4_nl": "IQ4_NL", "iq4_xs": "IQ4_XS", "mxfp4": "MXFP4_MOE",
           "f16": "F16", "bf16": "BF16", "f32": "F32"}
TEXT_LENGTH = 20000


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout, done.stderr


def file_of(name, peers):
    """The default model in a format; written when it is not there."""
    if FORMATS[name] is None:
        return MODEL
    path = peers / "models" / f"smollm2-135m-{name}.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        # MXFP4 is meant for experts, so by itself it would leave these matrices as they are.
        more = ["--tensor-type", "attn=mxfp4", "--tensor-type", "ffn=mxfp4"] if name == "mxfp4" else ["--pure", "--token-embedding-type", "q8_0"]
        run(peers / "llama.cpp/build/bin/llama-quantize", "--allow-requantize", *more, MODEL, part, FORMATS[name])
        part.rename(path)
    return path


def kept(path, text, peers, kind, find):
    """find()'s number, from the file that holds it where it was found before; None where it is to be found by nothing."""
    note = peers / "models" / f"{path.stem}.{hashlib.sha256(text.read_bytes()).hexdigest()[:8]}.{kind}"
    if not note.exists():
        if find is None:
            return None
        note.write_text(str(find()))
    return float(note.read_text())


def peer_perplexity(path, text, peers, kv):
    """llama-perplexity's figure, or None where it is not built."""
    program = peers / "llama.cpp/build/bin/llama-perplexity"

    def find():  # with one thread: it bears a busy machine
        said = "".join(run(program, "-m", path, "-f", text, "-c", 512, "-b", 512, "-fa", "on", "-t", 1, "-ctk", kv, "-ctv", kv))
        return re.search(r"PPL = ([\d.]+)", said).group(1)

    return kept(path, text, peers, "ppl" if kv == "f16" else kv + ".ppl", find) if program.exists() else None


def exact_perplexity(troupe, path, text, peers, quick):
    """Ours, of the same weights as F32."""

    def find():
        floats = peers / "models/exact.part"
        run(peers / "llama.cpp/build/bin/llama-quantize", "--allow-requantize", path, floats, "F32")
        try:
            return our_perplexity(troupe, floats, text, [])
        finally:
            floats.unlink()

    return kept(path, text, peers, "exact", None if quick else find)


def our_perplexity(troupe, path, text, more):
    return json.loads(run(troupe, "eval", "perplexity", "--halves", "--window", 512, "-m", path, *more, text)[0])["perplexity"]


def distance_to_reference(troupe, path, more):
    """Share of positions with the same best token, and mean divergence over the reference's ten best."""
    reference = [json.loads(line) for line in (ROOT / "tests/reference/logits.jsonl").read_text().splitlines()]
    asked = "".join(json.dumps({"ids": line["ids"]}) + "\n" for line in reference)
    found = [json.loads(line) for line in run(troupe, "eval", "logits", "--best", 100, "-m", path, *more, input=asked)[0].splitlines()]
    agreeing = divergence = positions = 0
    for expected, ours in zip(reference, found, strict=True):
        for best, candidates in zip(expected["top"], ours["top"], strict=True):
            known = dict(map(tuple, candidates))
            least = candidates[-1][1]  # of a token that is not even among our hundred best; it can only be less
            divergence += sum(math.exp(logprob) * (logprob - known.get(id, least)) for id, logprob in best)
            agreeing += best[0][0] == candidates[0][0]
            positions += 1
    return agreeing / positions, divergence / positions


def beyond(value, other):
    return f"{100 * (value / other - 1):+.2f} %" if value and other else "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--kv", default="i16")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--peers", type=pathlib.Path, default=CACHE / "troupe-peers")
    parser.add_argument("--troupe", default="build/release/troupe")
    given = parser.parse_args()
    formats, kinds = given.formats.split(","), given.kv.split(",")
    for name in formats:
        if name not in FORMATS:
            raise SystemExit(f"no format {name}; there are: {', '.join(FORMATS)}")
    (given.peers / "models").mkdir(parents=True, exist_ok=True)
    text = given.text
    if text is None:
        topics = pydoc_data.topics.topics
        text = given.peers / "models/language_reference.txt"
        text.write_text("\n\n".join(topics[name] for name in sorted(topics))[:TEXT_LENGTH])
    print(f"Text: {text.name}, sha256 {hashlib.sha256(text.read_bytes()).hexdigest()[:16]}\n")
    print("| weights | KV | agreement | divergence | perplexity | to llama.cpp's | to exact | llama.cpp's to exact |\n|---|---|---|---|---|---|---|---|")
    for name in formats:
        path = file_of(name, given.peers)
        exact = exact_perplexity(given.troupe, path, text, given.peers, given.quick)
        for kind in kinds:
            theirs = peer_perplexity(path, text, given.peers, "f16" if kind == "i16" else kind)
            more = ["--kv-type", kind]
            agreement, divergence = distance_to_reference(given.troupe, path, more)
            ours = our_perplexity(given.troupe, path, text, more)
            print(f"| {name} | {kind} | {agreement:.3f} | {divergence:.4f} | {ours:.4f} | {beyond(ours, theirs)} | {beyond(ours, exact)} | "
                  f"{beyond(theirs, exact)} |", flush=True)


if __name__ == "__main__":
    main()
