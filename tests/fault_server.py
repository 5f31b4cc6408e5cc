"""A small server that speaks chat completions (and Anthropic's messages) on loopback, and fails as it is told.

One example: `FaultServer(say, plan=[Fault("status", 429, {"Retry-After": "0.05"}), None])` refuses the first request
with 429, and answers all others by `say(messages)`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Fault:
    """What goes wrong: "status" (this number, with these headers), "slow", "truncated", "malformed", "no-usage"."""

    kind: str
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = "scripted fault"
    code: str | None = None


Plan = Callable[[int, dict[str, Any]], Fault | None]


@dataclass
class FaultServer:
    """`plan(number, body)` says what happens to the request with this number, counted from 0 in order of arrival."""

    say: Say
    plan: Plan = lambda number, body: None
    caching: bool = False  # prompts that were seen before are read from a cache, all but their last word
    delay_s: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answered: int = 0
    at_once: int = 0
    most_at_once: int = 0
    seen: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @contextmanager
    def running(self) -> Iterator[FaultServer]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or every answer waits 40 ms for the acknowledgement of its headers

            def do_POST(self) -> None:
                owner.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        body = json.loads(http.rfile.read(int(http.headers["Content-Length"])))
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in http.headers.items()})
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.answer(http, body, self.plan(number, body))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up: that is what some tests are about
        finally:
            with self.lock:
                self.at_once -= 1

    def answer(self, http: BaseHTTPRequestHandler, body: dict[str, Any], fault: Fault | None) -> None:
        time.sleep(self.delay_s)
        kind = fault.kind if fault else ""
        if fault and kind == "status":
            error = {"error": {"message": fault.message, "code": fault.code, "type": "fault"}}
            self.write(http, fault.status, json.dumps(error).encode(), fault.headers)
            return
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        data = self.messages(body) if http.path.endswith("/messages") else self.completion(body)
        if kind == "no-usage":
            del data["usage"]
        text = json.dumps(data).encode()
        if kind == "malformed":
            text = text[: len(text) // 2]
        if kind == "truncated":
            http.send_response(200)
            http.send_header("Content-Type", "application/json")
            http.send_header("Content-Length", str(len(text)))
            http.end_headers()
            http.wfile.write(text[: len(text) // 2])
            http.wfile.flush()
            http.close_connection = True
            return
        with self.lock:
            self.answered += not kind or kind == "slow"
        self.write(http, 200, text, {})

    def write(self, http: BaseHTTPRequestHandler, status: int, text: bytes, headers: Mapping[str, str]) -> None:
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(text)))
        for name, value in headers.items():
            http.send_header(name, value)
        http.end_headers()
        http.wfile.write(text)

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text, cut = self.text(body)
        prompt = words(turn["content"] for turn in body["messages"])
        reason = "length" if cut else "stop"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        samples = body.get("n", 1)
        output = words([text]) * samples
        return {
            "id": "x",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [choice] * samples,
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt + output,
                "prompt_tokens_details": {"cached_tokens": self.cached(body, prompt)},
            },
        }

    def messages(self, body: dict[str, Any]) -> dict[str, Any]:
        text, cut = self.text(body)
        prompt = words([body.get("system", ""), *(turn["content"] for turn in body["messages"])])
        cached = self.cached(body, prompt)
        return {
            "id": "x",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": "max_tokens" if cut else "end_turn",
            "usage": {
                "input_tokens": prompt - cached,
                "cache_read_input_tokens": cached,
                "cache_creation_input_tokens": 0,
                "output_tokens": words([text]),
            },
        }

    def cached(self, body: dict[str, Any], prompt: int) -> int:
        text = json.dumps([body.get("system"), body["messages"]])
        with self.lock:
            known = text in self.seen
            self.seen.add(text)
        return prompt - 1 if self.caching and known else 0

    def text(self, body: dict[str, Any]) -> tuple[str, bool]:
        """What is said, in the form of a schema where one is asked for, and whether the limit of tokens cut it."""
        text = self.say(body)
        wanted = body.get("response_format", {}).get("json_schema") or body.get("output_config", {}).get("format")
        if wanted and not text.startswith("{"):
            text = json.dumps({next(iter(wanted["schema"]["properties"]), "answer"): text})
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        if limit is None or words([text]) <= limit:
            return text, False
        return " ".join(text.split()[:limit]), True


def words(texts: Any) -> int:
    return sum(len(str(text).split()) for text in texts)


def in_turn(faults: Sequence[Fault | None]) -> Plan:
    """The faults one after the other, then none."""
    return lambda number, _body: faults[number] if number < len(faults) else None
