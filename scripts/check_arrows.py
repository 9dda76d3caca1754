#!/usr/bin/env python3
"""Reads every #include and fails on an arrow that points the wrong way.

base <- memory <- kernels <- models <- actors <- pipelines <- server <- cli: a folder may include itself and those to
its left. Third-party headers have their rooms, and the public headers stand on the standard library alone.
Usage: check_arrows.py ROOT [--sizes]; --sizes also lists files longer than the style asks for (never a failure).
"""
import pathlib
import re
import sys

ORDER = ["base", "memory", "kernels", "models", "actors", "pipelines", "server", "cli"]
OUTSIDE = ["examples", "bench", "tests"]  # may look at everything, under the rules for third parties
SOURCES = {".hpp", ".cpp", ".h", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
VAGUE_NAME = re.compile(r"(^|_)(util|utils|utilities|helper|helpers|manager|common|misc)(_|\.|$)")
CUDA_HEADER = re.compile(r"^(cuda|cublas|nccl|cub/|cooperative_groups|cutlass/|thrust/|nvtx)")
BEAST_HEADER = re.compile(r"^boost/(beast|asio)(/|\.hpp)")
CAF_HEADER = re.compile(r"^caf/")
LIMITS = {".hpp": 150, ".cpp": 300, ".cu": 600}


def may_include_caf(path):
    if path.parts[0] == "tests":
        return path.parts[1] in ("actors", "pipelines")
    return path.parts[0] == "actors" or (path.parts[0] == "pipelines" and path.suffix == ".cpp")


def may_include_beast(path):
    return path.parts[0] == "server" or path.parts[:2] in (("tests", "server"), ("tests", "end_to_end")) \
        or path == pathlib.PurePath("examples/websocket_client.cpp")


def may_include_cuda(path):
    return path.parts[:2] in (("kernels", "cuda"), ("tests", "gpu")) or path.parts[0] == "bench"


def wrong_include(path, form, header):
    """The reason why the file at `path` (relative to the root) may not include `header`, or None."""
    room = path.parts[0]
    if CAF_HEADER.match(header) and not may_include_caf(path):
        return "CAF belongs in actors/ and the wiring in pipelines/*.cpp"
    if BEAST_HEADER.match(header) and not may_include_beast(path):
        return "Beast and Asio belong in server/"
    if CUDA_HEADER.match(header) and not may_include_cuda(path):
        return "CUDA belongs in kernels/cuda/"
    if room == "include":
        if form == "<" and (header.startswith("troupe/") or re.fullmatch(r"[a-z0-9_]+", header)):
            return None
        return "a public header stands on the standard library and <troupe/...> alone"
    target = header.split("/")[0]
    if target in ORDER and form == '"' and room in ORDER and ORDER.index(target) > ORDER.index(room):
        return f"{room}/ is left of {target}/: the arrow points the wrong way"
    if header.startswith("../") or "/../" in header:
        return "includes are written from the root"
    return None


def sources(root):
    for room in ["include"] + ORDER + OUTSIDE:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in SOURCES and path.is_file():
                yield path.relative_to(root)


def faults(root):
    for path in sources(root):
        if VAGUE_NAME.search(path.name):
            yield f"{path}: name it after what it does or holds, not {path.stem!r}"
        for number, line in enumerate((root / path).read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            reason = match and wrong_include(path, match[1], match[2])
            if reason:
                yield f"{path}:{number}: {match[2]}: {reason}"


def long_files(root):
    for path in sources(root):
        lines = (root / path).read_text(errors="replace").count("\n")
        limit = 600 if path.parts[0] == "kernels" else LIMITS.get(path.suffix, 300)
        if lines > limit:
            yield f"{path}: {lines} lines, {limit} feel right"


def main(arguments):
    root = pathlib.Path(arguments[0])
    count = sum(1 for _ in sources(root))
    found = list(faults(root))
    for line in found:
        print(line)
    if "--sizes" in arguments:
        for line in long_files(root):
            print(line)
    print(f"{count} files, {len(found)} faults")
    return 1 if found or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
