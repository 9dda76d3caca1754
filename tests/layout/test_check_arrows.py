"""Feeds scripts/check_arrows.py wrong arrows and right ones: a check that cannot fail proves nothing."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "check_arrows.py"

WRONG = [
    ("base/clock.hpp", '#include "memory/buffer.hpp"'),
    ("kernels/lane.hpp", '#include "models/gguf/gguf.hpp"'),
    ("models/llama/llama.cpp", '  #  include "actors/messages.hpp"'),
    ("pipelines/chat.cpp", '#include "server/session.hpp"'),
    ("models/gguf/gguf.cpp", "#include <caf/all.hpp>"),
    ("pipelines/chat.hpp", "#include <caf/actor.hpp>"),
    ("server/session.cpp", "#include <caf/actor.hpp>"),
    ("tests/server/session.cpp", "#include <caf/actor.hpp>"),
    ("actors/stream/stream_actor.cpp", "#include <boost/asio/post.hpp>"),
    ("cli/serve.cpp", "#include <boost/beast.hpp>"),
    ("models/llama/llama.cpp", "#include <cuda_runtime.h>"),
    ("kernels/cpu/norm.cpp", "#include <cublasLt.h>"),
    ("tests/kernels/norm.cpp", "#include <cuda_runtime.h>"),
    ("include/troupe/event.hpp", '#include "base/ids.hpp"'),
    ("include/troupe/event.hpp", "#include <boost/json.hpp>"),
    ("include/troupe/event.hpp", "#include <caf/actor.hpp>"),
    ("models/gguf/gguf.cpp", '#include "../../base/clock.hpp"'),
    ("base/string_util.hpp", "#include <string>"),
    ("actors/queue_manager.hpp", "#include <string>"),
]
RIGHT = [
    ("memory/buffer.hpp", '#include "base/clock.hpp"'),
    ("actors/scheduler/scheduler_actor.cpp", "#include <caf/actor.hpp>"),
    ("pipelines/chat.cpp", "#include <caf/actor.hpp>"),
    ("server/session.cpp", "#include <boost/beast/http.hpp>"),
    ("server/json.cpp", "#include <boost/json/src.hpp>"),
    ("kernels/cuda/norm.cu", "#include <cuda_runtime.h>"),
    ("tests/gpu/norm_test.cu", "#include <cuda_runtime.h>"),
    ("include/troupe/event.hpp", "#include <troupe/result.hpp>"),
    ("include/troupe/event.hpp", "#include <cstdint>"),
    ("cli/serve.cpp", '#include "server/listener.hpp"'),
    ("tests/base/clock.cpp", '#include "support/catch.hpp"'),
    ("base/utf8.cpp", "#include <utf8proc.h>"),
]


def status(name, line):
    with tempfile.TemporaryDirectory() as root:
        file = pathlib.Path(root) / name
        file.parent.mkdir(parents=True)
        file.write_text(f"// A file.\n{line}\n")
        return subprocess.run([sys.executable, CHECK, root], stdout=subprocess.DEVNULL).returncode


class Arrows(unittest.TestCase):
    def test_a_wrong_arrow_fails(self):
        for name, line in WRONG:
            with self.subTest(file=name, line=line):
                self.assertEqual(status(name, line), 1)

    def test_a_right_arrow_passes(self):
        for name, line in RIGHT:
            with self.subTest(file=name, line=line):
                self.assertEqual(status(name, line), 0)

    def test_an_empty_tree_fails(self):
        with tempfile.TemporaryDirectory() as root:
            self.assertEqual(subprocess.run([sys.executable, CHECK, root], stdout=subprocess.DEVNULL).returncode, 1)


if __name__ == "__main__":
    unittest.main()
