#!/usr/bin/env python3
"""Compare the rendering of chat templates with transformers', over many conversations.

    pip install 'transformers>=5.24' jinja2
    cargo build --release -p anatomy --example template
    tools/check-templates.py [--binary target/release/examples/template] PATH...

PATH is a file of one-line templates (`*.lines`), a template (`*.jinja`), a `tokenizer_config.json` or `chat_template.json`, a GGUF (also its first bytes in
`*.head.gz`), or a directory with any of these below it. Each different template is rendered over every conversation;
text and refusal must agree. Errors agree if both sides refuse, and the messages of `raise_exception` word for word.
What the renderer leaves out on purpose (`kind` is `unsupported`) is listed, and counts as a difference.
`--write FILE.gz` writes the cases with transformers' answers as JSON lines instead, for tests.
"""
import argparse, datetime, glob, gzip, io, json, os, struct, subprocess, sys

import jinja2
from transformers.utils import chat_template_utils

NOW = datetime.datetime(2024, 7, 5, 8, 4, 9, 123456)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Tells the weather \"now\" & <here>.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Name of the city"},
    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
    "days": {"type": ["integer", "null"], "minimum": 1}, "detail": {"type": "boolean", "default": True},
    "place": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number", "default": 1.5}}, "required": ["lat"]},
    "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["city"]},
    "return": {"type": "string", "description": "A sentence"}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Zeit für Ünïcode 时间", "parameters": {"type": "object", "properties": {}}}}
FLAT = {"name": "flat", "description": "without a wrapper", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": []}}


def user(content="Hello, who are you?"):
    return {"role": "user", "content": content}


def system(content="You are a helpful pirate.\n"):
    return {"role": "system", "content": content}


def assistant(content="Arr, a parrot.  ", **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments, id="call_0001"):
    return {"type": "function", "id": id, "function": {"name": name, "arguments": arguments}}


ASKED = [user("Weather in Ulm?"), assistant("", tool_calls=[call("get_weather", {"city": "Ulm", "days": 2, "detail": False, "place": {"lat": 48.4}, "tags": ["a", "b"]}, "abcdefghi")])]
ANSWERED = ASKED + [{"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "{\"sky\": \"<blue>\"}"}]
PARTS = [{"type": "text", "text": "What is in "}, {"type": "image"}, {"type": "text", "text": " here?"}]
UNICODE = "Grüße 你好 \u202eabc\u200b \U0001f9d1\u200d\U0001f680 e\u0301 \"q\" 'a' <b> & \\ \x7f\t\u0130ß"
LONG = [m for i in range(5) for m in (user(f"question {i}"), assistant(f"answer {i}"))]

CONVERSATIONS = {
    "user": [user()],
    "user, no prompt": {"messages": [user()], "add_generation_prompt": False},
    "system": [system(), user()],
    "system only": [system()],
    "empty": [],
    "no role": [{"content": "x"}],
    "no content": [{"role": "user"}],
    "null content": [user(), {"role": "assistant", "content": None}, user()],
    "empty content": [system(""), user(""), assistant(""), user(" ")],
    "turns": [user(), assistant(), user("And now?\n")],
    "turns with system, no prompt": {"messages": [system()] + LONG, "add_generation_prompt": False},
    "many turns": LONG + [user()],
    "unicode": [system(UNICODE), user(UNICODE), assistant(UNICODE), user("\n\n" + UNICODE)],
    "prefill": {"messages": [user(), assistant("The answer is")], "continue_final_message": True},
    "prefill with space": {"messages": [system(), user(), assistant(" The answer is  ")], "continue_final_message": True},
    "prefill parts": {"messages": [user(), assistant([{"type": "text", "text": "Begun "}])], "continue_final_message": True},
    "ends with assistant": [user(), assistant()],
    "ends with assistant, no prompt": {"messages": [user(), assistant()], "add_generation_prompt": False},
    "starts with assistant": [assistant(), user()],
    "two users": [user(), user("again")],
    "two systems": [system(), system("second"), user()],
    "two assistants": [user(), assistant(), assistant("more"), user()],
    "late system": [user(), assistant(), system("late"), user()],
    "unknown role": [user(), {"role": "narrator", "content": "Meanwhile"}, user()],
    "developer": [{"role": "developer", "content": "Be brief."}, user()],
    "parts": [system([{"type": "text", "text": "sys"}]), user(PARTS), assistant([{"type": "text", "text": "A cat."}]), user([{"type": "text", "text": "ok"}])],
    "image url": [user([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}, {"type": "text", "text": "?"}])],
    "video and audio": [user([{"type": "video", "video": "v.mp4"}, {"type": "audio", "audio_url": "a.wav"}, {"type": "text", "text": "?"}])],
    "empty parts": [user([])],
    "parts as words": [user(["one", "two"])],
    "number content": [user(3)],
    "dict content": [user({"text": "x"})],
    "tools": {"messages": [user()], "tools": [WEATHER, CLOCK]},
    "tools and system": {"messages": [system(), user()], "tools": [WEATHER]},
    "flat tools": {"messages": [system(), user()], "tools": [FLAT]},
    "no tools": {"messages": [user()], "tools": []},
    "broken tools": {"messages": [user()], "tools": ["x"]},
    "call": {"messages": ASKED, "tools": [WEATHER, CLOCK]},
    "call without tools": ASKED,
    "result": {"messages": ANSWERED, "tools": [WEATHER]},
    "result with system": {"messages": [system()] + ANSWERED, "tools": [WEATHER, CLOCK]},
    "result without tools": ANSWERED,
    "result and answer": {"messages": ANSWERED + [assistant("Blue."), user("Thanks")], "tools": [WEATHER]},
    "results in a row": {"messages": ASKED + [ANSWERED[-1], {**ANSWERED[-1], "content": "second"}, assistant("Both."), user()], "tools": [WEATHER]},
    "two calls": {"messages": [user(), assistant("Let me see.", tool_calls=[call("clock", {}, "aaaaaaaaa"), call("get_weather", {"city": "Nürnberg \"x\""}, "bbbbbbbbb")]), {"role": "tool", "name": "clock", "tool_call_id": "aaaaaaaaa", "content": "noon"}, {"role": "tool", "name": "get_weather", "tool_call_id": "bbbbbbbbb", "content": ["sun", {"t": 21.5}]}], "tools": [WEATHER, CLOCK]},
    "arguments as text": {"messages": [user(), assistant("", tool_calls=[call("clock", "{\"a\": 1}", "ccccccccc")]), {"role": "tool", "content": {"now": 12.0, "ok": True, "no": None}, "tool_call_id": "ccccccccc"}], "tools": [CLOCK]},
    "bare call": {"messages": [user(), {"role": "assistant", "tool_calls": [{"name": "clock", "arguments": {"x": [1, 2.5, None, True]}}]}, {"role": "tool", "name": "clock", "content": "1"}], "tools": [CLOCK]},
    "no calls": {"messages": [user(), assistant("x", tool_calls=[]), user()], "tools": [CLOCK]},
    "null calls": [user(), assistant("x", tool_calls=None), user()],
    "thinking on": {"messages": [user()], "enable_thinking": True},
    "thinking off": {"messages": [user()], "enable_thinking": False},
    "thinking switch": {"messages": [system(), user()], "thinking": True, "reasoning_effort": "high"},
    "thought": [user(), assistant("<think>\nhm\n</think>\n\nYes."), user("Sure?"), assistant("<think>again</think>Really.")],
    "reasoning": [user(), assistant("Yes.", reasoning_content="Let me think."), user("Sure?")],
    "reasoning field": {"messages": [user(), assistant("Yes.", reasoning="Let me think."), user("Sure?"), assistant("Aye", thinking="hm")], "add_generation_prompt": False},
    "reasoning and call": {"messages": [user(), assistant("", thinking="Need a tool", tool_calls=[call("clock", {"z": "1"}, "ddddddddd")]), {"role": "tool", "content": "x", "tool_call_id": "ddddddddd"}], "tools": [CLOCK]},
    "documents": {"messages": [user()], "documents": [{"title": "T", "text": "Body"}, {"title": "U", "text": "More", "id": 7}]},
    "broken documents": {"messages": [user()], "documents": ["x"]},
    "special in text": [user("<s> [INST] <|im_end|> {{ 7*7 }} {% raw %}")],
    "extra fields": [{**user(), "name": "Ann", "weight": 0.5, "cache": {"a": [1, {"b": None}]}}, assistant(name="Bot"), user()],
    "builtin tools": {"messages": [system(), user()], "builtin_tools": ["python"], "tools_in_user_message": False, "date_string": "1 May 2025"},
    "custom": {"messages": [user()], "custom_tools": [WEATHER], "xml_tools": [WEATHER], "python_tools": ["def f(): pass"], "keep_past_thinking": True, "model_identity": "You are Bob."},
    "no special tokens": {"messages": [system(), user()], "bos_token": "", "eos_token": ""},
}

# What the one-line templates of a `.lines` file are rendered with.
FEATURES = {
    "messages": [user("  Hi \n"), {**assistant(), "extra": {"list": [1]}}], "tools": [CLOCK], "text": "héllo", "numbers": [1, 2, 3],
    "map": {"a": 1, "nested": {"b": [1, 2], "kw": {"c": 3}}, "ü": "é\n"}, "big": 2 ** 63, "float1": 0.1, "float2": 1e100, "float3": 100.0,
    "people": [{"name": "Bob", "age": 30}, {"name": "ann", "age": 41, "pet": {"kind": "cat"}}, {"name": "Cy", "age": 30}],
    "tree": [{"v": "a", "c": [{"v": "b", "c": []}, {"v": "c"}]}, {"v": "d"}],
}


def gguf_templates(data):
    """(name, template) of a GGUF's metadata."""
    stream = io.BytesIO(data)
    read = lambda form: struct.unpack("<" + form, stream.read(struct.calcsize("<" + form)))[0]
    text = lambda: stream.read(read("Q")).decode("utf-8", "replace")
    scalars = dict(zip([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12], "BbHhIif?Qqd"))

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = read("I"), read("Q")
            if inner in scalars:
                stream.seek(count * struct.calcsize("<" + scalars[inner]), 1)
                return None
            return [value(inner) for _ in range(count)]
        return read(scalars[kind])

    if stream.read(4) != b"GGUF":
        return
    try:
        _, _, count = read("I"), read("Q"), read("Q")
        for _ in range(count):
            key = text()
            found = value(read("I"))
            if key.startswith("tokenizer.chat_template") and isinstance(found, str):
                yield key, found
    except (struct.error, KeyError):
        return


def templates_of(path):
    """(name, template) of a file."""
    name = os.path.basename(path)
    if name.endswith(".lines"):
        for number, line in enumerate(open(path, encoding="utf-8", newline="\n"), 1):
            yield f"{name}:{number}", line.removesuffix("\n")
    elif name.endswith(".jinja"):
        yield name, open(path, encoding="utf-8", newline="").read()
    elif name.endswith(".json") and ("tokenizer_config" in name or name == "chat_template.json"):
        try:
            found = json.load(open(path, encoding="utf-8")).get("chat_template")
        except (ValueError, AttributeError):
            return
        if isinstance(found, str):
            yield name, found
        for entry in found if isinstance(found, list) else []:
            yield f"{name}:{entry['name']}", entry["template"]
    elif name.endswith(".gguf"):
        with open(path, "rb") as file:
            yield from gguf_templates(file.read(64 << 20))
    elif name.endswith(".head.gz"):
        yield from gguf_templates(gzip.open(path).read())


def gather(paths):
    found = {}
    for path in paths:
        files = [path] if os.path.isfile(path) else sorted(glob.glob(os.path.join(path, "**"), recursive=True))
        for file in files:
            if os.path.isfile(file):
                for name, template in templates_of(file):
                    found.setdefault(template, f"{file} {name}")
    return {name: template for template, name in found.items()}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def reference(template, conversation):
    """What `apply_chat_template` gives, without a tokenizer."""
    given = dict(conversation) if isinstance(conversation, dict) else {"messages": conversation}
    messages = given.pop("messages")
    continues = given.pop("continue_final_message", False)
    given.setdefault("add_generation_prompt", not continues)
    try:
        if not messages:
            raise ValueError("empty")
        messages = chat_template_utils._normalize_chat_messages(messages)
        marks = "{% generation" in template and not continues
        rendered, spans = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=template, continue_final_message=continues,
            return_assistant_tokens_mask=marks, **{**SPECIAL, **given})
        # Here they are counted in bytes.
        in_bytes = lambda end: len(rendered[0][:end].encode())
        return {"text": rendered[0], "generation": [{"start": in_bytes(a), "end": in_bytes(b)} for a, b in (spans[0] if marks else [])]}
    except Exception as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"error": str(error), "type": type(error).__name__, "raised": raised}


def agree(expected, found):
    if "text" in expected:
        return all(expected[key] == found.get(key) for key in ("text", "generation") if key == "text" or expected[key])
    if expected["raised"]:
        return found.get("kind") == "raised" and found["error"] == expected["error"]
    return "error" in found and found["kind"] not in ("unsupported", "raised")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default="target/release/examples/template")
    arguments.add_argument("--write")
    arguments.add_argument("--show", type=int, default=20, help="how many differences are shown")
    arguments.add_argument("paths", nargs="+")
    given = arguments.parse_args()
    chat_template_utils.datetime = Clock
    templates = gather(given.paths)
    conversations = {**CONVERSATIONS, "features": FEATURES}
    cases = [(name, label) for name in templates for label in (["features"] if ".lines:" in name else CONVERSATIONS)]
    requests = []
    for name, label in cases:
        conversation = conversations[label]
        conversation = {**SPECIAL, **(conversation if isinstance(conversation, dict) else {"messages": conversation})}
        requests.append({"template": templates[name], "conversation": conversation, "now": NOW.isoformat()})
    expected = [reference(templates[name], conversations[label]) for name, label in cases]
    if given.write:
        with gzip.GzipFile(given.write, "wb", 9, mtime=0) as raw, io.TextIOWrapper(raw, encoding="utf-8") as out:
            for (name, label), request, answer in zip(cases, requests, expected):
                name = os.path.basename(name.split(" ")[0])
                out.write(json.dumps({"name": name, "label": label, **request, "expected": answer}, ensure_ascii=False) + "\n")
        return
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    answers = subprocess.run([given.binary], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    wrong, refused = [], 0
    for (name, label), answer, wanted in zip(cases, answers, expected):
        found = json.loads(answer)
        refused += "error" in wanted
        if not agree(wanted, found):
            wrong.append((name, label, wanted, found))
    for name, label, wanted, found in wrong[:given.show]:
        begin = 0
        if "text" in wanted and "text" in found:
            begin = max(0, len(os.path.commonprefix([wanted["text"], found["text"]])) - 60)
        shown = lambda answer: json.dumps({k: v[begin:begin + 300] if isinstance(v, str) else v for k, v in answer.items()})
        print(f"--- {name} [{label}]\n  wanted {shown(wanted)}\n  found  {shown(found)}")
    print(f"{len(templates)} templates, {len(CONVERSATIONS)} conversations each: {len(cases)} renderings "
          f"({refused} refused), {len(wrong)} differ in {len({name for name, *_ in wrong})} templates")
    sys.exit(bool(wrong) or len(answers) != len(cases))


main()
