"""Records OpenTelemetry traces of real instrumentations around a small agent of ours.

The agent asks a scripted chat-completions server on loopback, runs the tools that it asks for, and
starts one sub-agent. Requests are traced by the instrumentation that is named; the spans of agents
and tools are the agent's own, in the same convention. Beside the traces it writes what the server
saw: the truth.

    pip install openai opentelemetry-sdk opentelemetry-exporter-otlp-proto-common \
        openinference-instrumentation-openai opentelemetry-instrumentation-openai-v2 \
        opentelemetry-instrumentation-openai
    python3 make/traced_agent.py openinference|openllmetry|no_content <out.jsonl> <truth.json>

Two more kinds need no tracing: `litellm` (pip install litellm) asks by way of LiteLLM and writes its
standard logging payloads; `har` (pip install mitmproxy) asks by way of a reverse proxy that writes
an archive.

`no_content` is OpenTelemetry's own instrumentation as it is by default, which captures no text
(2.3b0, with wrapt 1: newer ones did not start here in November 2026).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KIND, OUT, TRUTH = sys.argv[1:4]
INTRO = "You mend small Python programs. Say little, and run the tests before you end."
HELPER = "You look things up in a repository and report what you found in one line."
TASK = "The pager drops the last page. Please mend it."
ERRAND = "Find the function that cuts a list into pages, and say in which file it is."
PLAN = {
    TASK: [
        (None, [("read_file", {"path": "pager/pages.py"}), ("list_files", {"path": "."})]),
        ("One moment: where is it used?", [("ask_helper", {"task": ERRAND})]),
        (None, [("run_tests", {"verbose": True})]),
        ("The last page is kept now; all 4 tests pass.", []),
    ],
    ERRAND: [
        (None, [("search", {"text": "def pages"})]),
        ("It is pages() in pager/pages.py.", []),
    ],
}
RESULTS = {
    "read_file": "def pages(items, size):\n    return [items[i:i + size] for i in range(0, len(items) - size, size)]",
    "list_files": "pager\ntests\nREADME.md",
    "search": "pager/pages.py:1: def pages(items, size):",
    "run_tests": "....\n4 passed in 0.02s",
}
SEEN: list[dict] = []


class Server(BaseHTTPRequestHandler):
    """The model: answers by the plan of the first user message; one request fails first."""

    failed = False

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        start = time.time()
        messages = body["messages"]
        task = next(m["content"] for m in messages if m["role"] == "user")
        step = sum(m["role"] == "assistant" for m in messages)
        if task == TASK and step == 2 and not Server.failed:
            Server.failed = True
            SEEN.append({"status": 500, "start": start, "end": time.time(), "request": body})
            self.reply(500, {"error": {"message": "the server stumbled", "type": "server_error"}})
            return
        time.sleep(0.05)
        text, calls = PLAN[task][step]
        made = [
            {
                "id": f"call_{'helper' if task == ERRAND else 'main'}_{step}_{n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for n, (name, arguments) in enumerate(calls)
        ]
        size = len(json.dumps(body)) // 4
        usage = {
            "prompt_tokens": size,
            "completion_tokens": 20 + 5 * len(calls),
            "total_tokens": size + 20 + 5 * len(calls),
            "prompt_tokens_details": {"cached_tokens": size // 2 if step else 0},
            "completion_tokens_details": {"reasoning_tokens": 8},
        }
        answer = {
            "id": f"chatcmpl-{len(SEEN):04d}",
            "object": "chat.completion",
            "created": int(start),
            "model": "scripted-1",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls" if calls else "stop",
                    "message": {"role": "assistant", "content": text}
                    | ({"tool_calls": made} if made else {}),
                }
            ],
            "usage": usage,
        }
        SEEN.append(
            {"status": 200, "start": start, "end": time.time(), "request": body, "response": answer}
        )
        self.reply(200, answer)

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def tracing():
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class ToFile(SpanExporter):
        def export(self, spans):
            from google.protobuf.json_format import MessageToDict
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

            request = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
            for resource in request["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        for one in [span, *span.get("links", [])]:
                            for name in ("traceId", "spanId", "parentSpanId"):
                                if name in one:  # OTLP has ids in hexadecimal
                                    one[name] = base64.b64decode(one[name]).hex()
            with Path(OUT).open("a") as file:
                file.write(json.dumps(request, separators=(",", ":")) + "\n")
            return SpanExportResult.SUCCESS

    about = {"service.name": "pager-mender", "service.version": "0.1"}
    provider = TracerProvider(resource=Resource(about))
    provider.add_span_processor(SimpleSpanProcessor(ToFile()))
    trace.set_tracer_provider(provider)
    if KIND == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor
    elif KIND == "openllmetry":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return trace.get_tracer("pager-mender")


class ByLiteLLM:
    """LiteLLM in the place of the client."""

    def __init__(self, url):
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm
        from litellm.integrations.custom_logger import CustomLogger

        class ToFile(CustomLogger):
            def log_success_event(self, kwargs, **_):
                self.note(kwargs)

            def log_failure_event(self, kwargs, **_):
                self.note(kwargs)

            def note(self, kwargs):
                payload = kwargs["standard_logging_object"]
                payload.pop("response_cost_failure_debug_info", None)  # where it lies on this disk
                (payload.get("error_information") or {}).pop("traceback", None)
                with Path(OUT).open("a") as file:
                    file.write(json.dumps(payload, default=str) + "\n")

        litellm.callbacks = [ToFile()]
        self.chat = self.completions = self
        self.completion, self.url = litellm.completion, url

    def create(self, **asked):
        for _ in range(3):
            try:
                found = self.completion(
                    **asked | {"model": "openai/scripted-1"},
                    api_base=self.url,
                    api_key="none",
                    max_retries=0,
                    litellm_session_id=f"conversation-{KIND}",
                )
            except Exception as error:
                print(type(error), file=sys.stderr)
                time.sleep(0.2)
            else:
                time.sleep(0.05)  # payloads are written on a thread
                return found
        raise SystemExit("no answer")


class NoTracer:
    """Where requests are logged on their way, and not by the agent."""

    def start_as_current_span(self, *_, **__):
        return nullcontext()


def attributes(kind, name, conversation, call=None, arguments=None):
    if KIND == "openinference":
        found = {"openinference.span.kind": kind, "session.id": conversation}
        if kind == "AGENT":
            return found | {"agent.name": name}
        return found | {"tool.name": name, "tool_call.id": call, "input.value": arguments}
    found = {"gen_ai.conversation.id": conversation}
    if kind == "AGENT":
        return found | {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    return found | {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.call.id": call,
    }


def run(client, tracer, agent, system, task, conversation):
    names = ["read_file", "list_files", "ask_helper", "run_tests"] if task == TASK else ["search"]
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": f"Tool {name} of the sample.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
        for name in names
    ]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": task}]
    with tracer.start_as_current_span(
        f"invoke_agent {agent}", attributes=attributes("AGENT", agent, conversation)
    ):
        while True:
            answer = client.chat.completions.create(
                model="scripted-1", messages=messages, tools=tools, max_tokens=512, temperature=0.2
            )
            said = answer.choices[0].message
            messages.append(said.model_dump(exclude_none=True))
            if not said.tool_calls:
                return said.content
            for call in said.tool_calls:
                name, text = call.function.name, call.function.arguments
                with tracer.start_as_current_span(
                    f"execute_tool {name}",
                    attributes=attributes("TOOL", name, conversation, call.id, text),
                ):
                    if name == "ask_helper":
                        result = run(client, tracer, "helper", HELPER, ERRAND, conversation)
                    else:
                        time.sleep(0.03)
                        result = RESULTS[name]
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    proxy = None
    if KIND == "litellm":
        tracer, client = NoTracer(), ByLiteLLM(url)
    else:
        import openai

        tracer = NoTracer() if KIND == "har" else tracing()
        if KIND == "har":
            command = ["mitmdump", "-q", "--mode", f"reverse:{url[:-3]}@8899", "--set"]
            proxy = subprocess.Popen([*command, f"hardump={OUT}"])
            url = "http://127.0.0.1:8899/v1"
            time.sleep(4)
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=2)
    run(client, tracer, "coder", INTRO, TASK, f"conversation-{KIND}")
    if proxy is not None:
        proxy.send_signal(signal.SIGINT)
        proxy.wait()
    time.sleep(1)
    Path(TRUTH).write_text(
        json.dumps({"recording": f"otlp-{KIND}", "requests": SEEN}, indent=1) + "\n"
    )


main()
