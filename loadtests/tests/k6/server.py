"""Answers what script.js asks, on 127.0.0.1: plain on the first port given, TLS on the second."""
import http.server, json, socket, ssl, struct, sys, threading, time

class Quotes(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer()

    def answer(self):
        path = self.path.split("?")[0]
        if path == "/slow":
            time.sleep(0.5)
        if path == "/reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        status = {"/missing": 404, "/broken": 500}.get(path, 200)
        body = json.dumps({"symbol": "ECOPETROL", "price": "2450.00"}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ValueError):
            pass

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass

plain = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Quotes)
secure = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Quotes)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3])
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=secure.serve_forever, daemon=True).start()
plain.serve_forever()
