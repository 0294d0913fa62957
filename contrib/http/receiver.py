#!/usr/bin/env python3
"""Takes messages from postrider (deliver: http) and keeps each once, in a file named by its Idempotency-Key."""
import os, re, sys, tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, directory = int(sys.argv[1]), sys.argv[2]
folder = os.open(directory, os.O_RDONLY)

class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        key, left = self.headers.get("Idempotency-Key", ""), int(self.headers["Content-Length"])
        if not re.fullmatch("[0-9a-f]{64}", key):
            return self.answer(400)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".") as part:
            while octets := self.rfile.read(min(left, 1 << 16)):
                left -= part.write(octets)
            if left:  # it was cut off: nobody is there to be answered
                return
            part.flush()
            os.fsync(part.fileno())  # kept before it is said to be
            status = 201
            try:
                os.link(part.name, os.path.join(directory, key))
            except FileExistsError:  # it came before, and its answer was lost
                status = 200
            os.fsync(folder)  # its name, too
        self.answer(status)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass

ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
