"""A backend behind group-mirror: answers "before" callbacks and prints what it gets. Run: python3 example-backend.py PORT"""
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

class Backend(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True  # connections are kept

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        command = parse_qs(urlsplit(self.path).query).get("CallbackCommand", [""])[0]
        print(command, self.headers.get("X-Group-Mirror-Delivery", "at once"), body.decode(errors="replace"), flush=True)
        refused = "Before" in command and b"forbidden" in body
        code, info = (10100, "this word is not allowed") if refused else (0, "")
        answer = json.dumps({"ActionStatus": "OK", "ErrorCode": code, "ErrorInfo": info}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    log_message = lambda *_: None

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Backend).serve_forever()
