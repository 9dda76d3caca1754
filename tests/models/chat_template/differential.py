"""Compares Troupe's chat template engine with Python's Jinja2, set up as transformers does.

differential.py RENDER_LINES [--seed N] [--count N]. Exit code 77: jinja2 is missing. Inputs: the prompts of
tests/reference, generated conversations through every template in templates/, and generated small templates.
Two answers agree when the texts are equal or both sides fail.
"""
import argparse
import datetime
import json
import pathlib
import random
import subprocess
import sys
import warnings

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    print("skipped: the jinja2 package is missing from .venv")
    sys.exit(77)

import generate

warnings.simplefilter("ignore", SyntaxWarning)  # Python compiles what Jinja makes of (1)[0]
HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2024, 5, 6, 7, 8, 9)


class GenerationTag(jinja2.ext.Extension):
    """{% generation %} is a plain block when no training mask is wanted."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def expected(env, template, context):
    try:
        return {"text": env.from_string(template).render(**context)}
    except Exception as failure:  # whatever Python raises, the other side must fail too
        return {"error": f"{type(failure).__name__}: {failure}"}


def reference_cases():
    template = (HERE / "templates" / "smollm2.jinja").read_text()
    lines = (HERE.parent.parent / "reference" / "chat.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        yield template, {"messages": line["messages"], "add_generation_prompt": True}, {"text": line["prompt"]}


def generated_cases(rng, count):
    env = environment()
    templates = [path.read_text() for path in sorted((HERE / "templates").glob("*.jinja"))]
    for i in range(count):
        if i % 3 == 0:
            template, context = rng.choice(templates), generate.conversation(rng)
        else:
            template, context = generate.template(rng), generate.variables(rng)
        yield template, context, expected(env, template, context)


# Where we differ on purpose: 64-bit integers, and slices of numbers that Jinja folds to nothing when it compiles them.
ON_PURPOSE = ("integer overflow", "number is too large", "has no such slice")


def agree(wanted, found):
    if " object at 0x" in wanted.get("text", ""):
        return True  # an address; no two runs of Python agree either
    if "error" in wanted or "error" in found:
        return "error" in wanted and "error" in found or any(reason in found.get("error", "") for reason in ON_PURPOSE)
    return wanted["text"] == found["text"]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("render_lines")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--count", type=int, default=6000)
    chosen = options.parse_args()
    cases = [*reference_cases(), *generated_cases(random.Random(chosen.seed), chosen.count)]
    questions = "".join(json.dumps({"template": t, "context": c}) + "\n" for t, c, _ in cases)
    ran = subprocess.run([chosen.render_lines], input=questions.encode(), stdout=subprocess.PIPE, check=True)
    answers = [json.loads(line) for line in ran.stdout.decode().split("\n")[:-1]]
    assert len(answers) == len(cases), f"{len(answers)} answers to {len(cases)} questions"
    wrong = [(c, a) for c, a in zip(cases, answers) if not agree(c[2], a)]
    for (template, context, wanted), found in wrong[:20]:
        print("template:", repr(template), "\ncontext: ", json.dumps(context), "\nexpected:", wanted, "\nfound:   ", found, "\n")
    texts = sum("text" in wanted for _, _, wanted in cases)
    print(f"{len(cases)} templates, {texts} of them with a text, {len(wrong)} differences (seed {chosen.seed})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
