"""`troupe pull` over TLS: it believes the system's certificates, or those that the environment names, and no others."""
import functools
import http.server
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

from troupe_server import BINARY


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Certificates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        folder = cls.folder = pathlib.Path(cls.scratch.name)
        cls.certificate = folder / "certificate.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", cls.certificate], check=True, capture_output=True)
        (folder / "files").mkdir()
        (folder / "files/model.gguf").write_bytes(b"GGUF" + bytes(1000))
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder / "files"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cls.certificate, folder / "key.pem")
        cls.server.socket = context.wrap_socket(cls.server.socket, server_side=True)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()
        cls.scratch.cleanup()

    def pull(self, **variables):
        cache = tempfile.mkdtemp(dir=self.folder)
        kept = {name: value for name, value in os.environ.items() if name not in ("CURL_CA_BUNDLE", "SSL_CERT_FILE")}
        done = subprocess.run([BINARY, "pull", f"https://127.0.0.1:{self.server.server_port}/model.gguf"], capture_output=True, text=True,
                              timeout=60, env={**kept, "XDG_CACHE_HOME": cache, **{name: str(value) for name, value in variables.items()}})
        return done, list(pathlib.Path(cache).rglob("model.gguf"))

    def test_an_unknown_certificate_is_refused(self):
        done, files = self.pull()
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "certificate")
        self.assertEqual(files, [])

    def test_either_variable_names_certificates(self):
        for name in ("CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            done, files = self.pull(**{name: self.certificate})
            self.assertEqual(done.returncode, 0, (name, done.stderr))
            self.assertEqual(files[0].read_bytes()[:4], b"GGUF")

    def test_the_one_of_curl_goes_first_and_an_empty_one_counts_for_nothing(self):
        done, _ = self.pull(CURL_CA_BUNDLE="/nowhere.pem", SSL_CERT_FILE=self.certificate)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/nowhere.pem", done.stderr)
        done, _ = self.pull(CURL_CA_BUNDLE="", SSL_CERT_FILE=self.certificate)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    if shutil.which("openssl") is None:
        print("skipped: no openssl to make a certificate with")
        sys.exit(77)
    unittest.main()
