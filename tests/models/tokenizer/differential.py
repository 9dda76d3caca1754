"""Our token ids against those of the `tokenizers` package, on seeded random text, for all four pre-tokenizers.

Usage: differential.py TOKENIZE_LINES [--cases N] [--seed S]
Both sides use the default model's vocabulary and merges; each family's pattern is given to the package as a regular
expression. Exits with 77 when the package or the model is missing.
"""

import argparse
import json
import random
import subprocess
import sys
import unicodedata

SKIPPED = 77
CONTROL = 2  # of token_kind

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# By family: the patterns applied one after the other, and whether whole words that are tokens stay whole.
FAMILIES = {
    "gpt-2": ([GPT2], False),
    "smollm": ([r"\p{N}", GPT2], False),
    "llama-bpe": ([LLAMA3], True),
    "qwen2": ([LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")], False),
}

WORDS = (
    "the quick brown fox don't I'm we'LL they'Re it's 'tis O'Neil ' '' 's 'S 'ſ 'ſt ſs 'K naïve café über "
    "don’t for(int i=0;i<n;++i){x[i]*=2.5e-3;} def f(x): return x**2 https://a.b/c?d=e&f=%20 #include <|im_start|> "
    "<|im_end|> <|endoftext|> <repo_name> user@example.com 1,234,567.89 0x1F 3.14 12345678901 ١٢٣ ⅫⅧ ½¾ ²³ 一二三 "
    "你好世界 こんにちは カタカナ 한국어 привет мир Ελληνικά עברית العربية हिन्दी ไทย தமிழ் 😀 👩‍👩‍👧‍👦 🇫🇷🇩🇪 👍🏽 "
    "e\u0301 a\u0308\u0323 \u200b \u200d \ufeff \u00ad … — “q” «x» € £ ™ ∑ ∞ → ░▒▓ 𝒳𝔜 𠀀𠀁 \ufffd {} [] () ;; :: -- == //"
).split(" ")
BLANKS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\t\t", "        ", "\u00a0", "\u3000", "\u2028",
          "\u2029", "\u0085", "\u1680", "\u2003", "\u202f", "\u205f", "\v", "\f", "\r", "\u180e", "\x1c", "\x1f"]


def coarse(category):
    return category[0] if category[0] in "LNZ" else "other"


def settled_characters():
    """Characters whose class has not changed since Unicode 3.2: the two sides may know different versions."""
    old = unicodedata.ucd_3_2_0
    return [
        chr(c)
        for c in range(1, 0x30000)
        if not 0xD800 <= c < 0xE000
        and old.category(chr(c)) != "Cn"
        and coarse(old.category(chr(c))) == coarse(unicodedata.category(chr(c)))
    ]


def random_text(rng, characters):
    pieces = []
    for _ in range(rng.randint(1, 25)):
        kind = rng.random()
        if kind < 0.40:
            pieces.append(rng.choice(WORDS))
        elif kind < 0.65:
            pieces.append(rng.choice(BLANKS) * rng.choice([1, 1, 1, 2, 5]))
        elif kind < 0.72:
            pieces.append(str(rng.randrange(10 ** rng.randint(1, 9))))
        elif kind < 0.80:
            pieces.append("".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 8))))
        elif kind < 0.85:
            pieces.append(rng.choice("a.-=日\u0301 \n'") * rng.randint(2, 60))
        else:
            pieces.append("".join(rng.choice(characters) for _ in range(rng.randint(1, 5))))
    return "".join(pieces)


def reference(tokenizers, vocabulary, family, special):
    patterns, whole_words = FAMILIES[family]
    control = [t for t, k in zip(vocabulary["tokens"], vocabulary["kinds"]) if k == CONTROL]
    ids = {token: i for i, token in enumerate(vocabulary["tokens"])}
    if not special:  # the package's look-up of whole words would find control tokens in any text: ours never does
        ids = {token: i for token, i in ids.items() if token not in control}
    merges = [tuple(merge.split(" ")) for merge in vocabulary["merges"]]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(ids, merges, ignore_merges=whole_words))
    splits = [tokenizers.pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in patterns]
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([*splits, byte_level])
    if special:
        made.add_special_tokens(control)
    return made


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("tokenize_lines")
    arguments.add_argument("--cases", type=int, default=4000)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    try:
        import tokenizers
    except ImportError:
        print("skipped: the Python package tokenizers is not installed")
        return SKIPPED
    dump = subprocess.run([options.tokenize_lines, "--vocabulary"], capture_output=True, text=True)
    if dump.returncode == SKIPPED:
        print("skipped: the default model is not in the cache")
        return SKIPPED
    vocabulary = json.loads(dump.stdout)

    rng = random.Random(options.seed)
    characters = settled_characters()
    cases = [
        {"text": random_text(rng, characters), "pre": rng.choice(list(FAMILIES)), "special": rng.random() < 0.5}
        for _ in range(options.cases)
    ]
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    ours = subprocess.run([options.tokenize_lines], input=lines, capture_output=True, text=True, check=True).stdout
    ours = [json.loads(line) for line in ours.splitlines()]
    assert len(ours) == len(cases), f"{len(ours)} answers to {len(cases)} questions"

    references = {
        (family, special): reference(tokenizers, vocabulary, family, special)
        for family in FAMILIES
        for special in (False, True)
    }
    differing = 0
    for case, found in zip(cases, ours):
        expected = references[case["pre"], case["special"]].encode(case["text"], add_special_tokens=False).ids
        if found != expected:
            differing += 1
            if differing <= 10:
                print(json.dumps(case), "\n  ours:      ", found, "\n  tokenizers:", expected)
    print(f"{len(cases)} cases, seed {options.seed}: {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
