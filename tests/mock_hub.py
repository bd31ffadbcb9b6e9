#!/usr/bin/env python3
"""A small Hugging Face Hub on the loopback, for tests of `sotto pull`. Standard library only.

    python3 tests/mock_hub.py ROOT [--token T] [--gated] [--fault NAME]… [--large BYTES] [--tls CERT KEY]

ROOT holds repositories: ROOT/owner/name/<files>. Prints the two ports "HUB CDN" on one line, serves until stdin closes,
and appends to ROOT/log.jsonl one object a request: {"server": "hub"|"cdn", "method", "path", "auth", "range", "status"}.
Files of at least --large bytes are "LFS": resolve/ answers 302 to the CDN's port with X-Linked-Etag (sha256); smaller
ones are served by the Hub with git's blob sha1 as ETag, after a relative redirect, as huggingface.co does it.

Faults: cut (the CDN hangs up halfway, once a file), cut-always, corrupt (a byte is changed), stall (the first answer
never comes), busy (503 twice), whole (Range is ignored), evil-names ("../x" in the listing), huge (X-Linked-Size of
10^17), long (more bytes than announced), odd-etag (no hash), loop (redirects without end), moved (the API answers 307),
downgrade (with --tls, the CDN's address is http).
"""
import argparse
import hashlib
import json
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()

    def log_message(self, *_):
        pass

    def reply(self, status, headers=(), body=b"", cut=None):
        with self.lock, open(os.path.join(self.server.root, "log.jsonl"), "a") as log:
            log.write(json.dumps({"server": self.server.name, "method": self.command, "path": self.path,
                                  "auth": self.headers.get("Authorization", ""), "range": self.headers.get("Range", ""),
                                  "status": status}) + "\n")
        self.send_response(status)
        headers = dict(headers)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def once(self, key, times=1):
        """True for the first `times` calls with this key."""
        with self.lock:
            seen = self.server.seen
            seen[key] = seen.get(key, 0) + 1
            return seen[key] <= times

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        faults = self.server.faults
        if "busy" in faults and self.once("busy", 2):
            return self.reply(503, {"Retry-After": "0"})
        if "stall" in faults and self.once("stall"):
            time.sleep(5)
            self.close_connection = True
            return None
        if self.server.name == "cdn":
            return self.content(path, sha256_etag=True)
        if self.server.token and self.headers.get("Authorization") != "Bearer " + self.server.token:
            if self.server.gated:
                return self.reply(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted\x1b[31m"})
            return self.reply(401, {"X-Error-Message": "Invalid username or password."})
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 6 and parts[4] == "revision":
            if "moved" in faults and parts[2] == "old":
                return self.reply(307, {"Location": self.path.replace("/old/", "/new/")})
            return self.listing("/".join(parts[2:4]), "/".join(parts[5:]))
        if parts[:1] == ["cache"]:
            return self.content("/".join(parts[1:]), sha256_etag=False)
        if len(parts) >= 5 and parts[2] == "resolve":
            return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self.reply(404, {"X-Error-Code": "RepoNotFound"})

    def file(self, path):
        full = os.path.join(self.server.root, path.strip("/"))
        if not os.path.isfile(full):
            return None
        with open(full, "rb") as f:
            return f.read()

    def listing(self, repo, revision):
        base = os.path.join(self.server.root, repo)
        if not os.path.isdir(base):
            return self.reply(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if revision not in ("main", COMMIT, "refs/pr/1"):
            return self.reply(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        names = sorted(os.path.relpath(os.path.join(d, f), base) for d, _, fs in os.walk(base) for f in fs)
        if "evil-names" in self.server.faults:
            names.append("../../../../evil.json")
        body = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}
        return self.reply(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def resolve(self, repo, commit, name):
        data = self.file(repo + "/" + name)
        if data is None:
            return self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        headers = {"X-Repo-Commit": COMMIT}
        if "loop" in self.server.faults:
            return self.reply(302, {**headers, "Location": self.path})
        if len(data) < self.server.large:
            return self.reply(307, {**headers, "Location": f"/cache/{repo}/{name}"})
        size = 10 ** 17 if "huge" in self.server.faults else len(data)
        etag = "not-a-hash-1" if "odd-etag" in self.server.faults else hashlib.sha256(data).hexdigest()
        cdn = f"{self.server.scheme}://127.0.0.1:{self.server.cdn_port}"
        headers.update({"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size),
                        "Location": f"{cdn}/{repo}/{name}?Signature=a%2Bb&x=1"})
        return self.reply(302, headers)

    def content(self, path, sha256_etag):
        data = self.file(path)
        if data is None:
            return self.reply(404)
        etag = "cdn-" + hashlib.md5(data).hexdigest()  # not the Hub's
        if not sha256_etag:
            etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        faults = self.server.faults if sha256_etag else set()
        if "corrupt" in faults:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if "long" in faults:
            data += b"more"
        status, total = 200, len(data)
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and "whole" not in faults:
            start = int(wanted[6:].rstrip("-"))
            if start >= total:
                return self.reply(416, {"Content-Range": f"bytes */{total}"})
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
            data, status = data[start:], 206
        cut = None
        if self.command == "GET" and ("cut-always" in faults or ("cut" in faults and self.once("cut " + path))):
            cut = len(data) // 2 if "cut" in faults else 0
        return self.reply(status, headers, data, cut)


def serve(name, args, cdn_port=0):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.name, server.root, server.token, server.gated = name, args.root, args.token, args.gated
    server.faults, server.large, server.cdn_port, server.seen = set(args.fault), args.large, cdn_port, {}
    server.scheme = "https" if args.tls and "downgrade" not in args.fault else "http"
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*args.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--token", default="")
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--large", type=int, default=1000)
    args = parser.parse_args()
    cdn = serve("cdn", args)
    print(serve("hub", args, cdn), cdn, flush=True)
    sys.stdin.read()  # until the test that started it is gone


if __name__ == "__main__":
    main()
