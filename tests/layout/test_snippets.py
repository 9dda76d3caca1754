"""Every line of C++ in docs/composing.md is a line of an example: what is built and run is what is shown."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Snippets(unittest.TestCase):
    def test_each_line_is_one_of_an_example(self):
        shown = re.findall(r"^```cpp\n(.*?)^```", (ROOT / "docs/composing.md").read_text(), re.M | re.S)
        self.assertGreater(len(shown), 2)
        built = {line.rstrip() for example in (ROOT / "examples").glob("*.cpp") for line in example.read_text().splitlines()}
        for snippet in shown:
            for line in snippet.splitlines():
                self.assertIn(line.rstrip(), built)

    def test_each_example_named_is_there(self):
        for name in re.findall(r"`(\w+\.cpp)`", (ROOT / "docs/composing.md").read_text()):
            self.assertTrue((ROOT / "examples" / name).is_file(), name)


if __name__ == "__main__":
    unittest.main()
