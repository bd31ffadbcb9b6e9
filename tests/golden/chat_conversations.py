"""What make_chat_templates.py gives to every template."""

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a \"city\".\nNow or later.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "array", "items": {"type": "integer"}},
            "deep": {"type": "object", "properties": {"x": {"type": ["string", "null"], "default": None}}}}, "required": ["city"]},
        "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "ünï", "description": "", "parameters": {"type": "object", "properties": {}}}},
]


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id="call12345"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversations():
    """What templates are given: everyday conversations, and such that many templates refuse."""
    weather = call("get_weather", {"city": "Zürich", "days": [1, 2.5, None, True]})
    asked = [turn("user", "Weather?"), turn("assistant", None, tool_calls=[weather]),
             turn("tool", "{\"temp\": 21}", name="get_weather", tool_call_id="call12345")]
    result = []

    def add(*messages, both=False, **more):
        for prompt in (False, True) if both else (len(result) % 2 == 0,):
            result.append({"messages": list(messages), "tools": None, "documents": None, "add_generation_prompt": prompt,
                           "bos_token": "<s>", "eos_token": "</s>", **more})

    add(turn("user", "Hello"), both=True)
    add(turn("system", "Be brief."), turn("user", "Hi there  "), turn("assistant", " Hello!\n"),
        turn("user", "Grüße 你好 🎉 <tag> & 'q' \"d\" \\ "), both=True)
    add(turn("user", ""), turn("assistant", ""), turn("user", " \n "))
    add(turn("system", ""), turn("user", "a"), turn("assistant", "<think>\nhm\n</think>\n\nanswer"), turn("user", "b"),
        turn("assistant", "<think>x</think>c"), turn("user", "d"), enable_thinking=False)
    add(turn("user", "a"), turn("assistant", "b", reasoning_content="so be it", thinking="so be it"), both=True)
    add(turn("system", "You have tools."), turn("user", "Weather?"), tools=TOOLS, both=True)
    add(*asked, turn("assistant", "It is 21."), turn("user", "Thanks"), tools=TOOLS[:1])
    add(*asked, tools=TOOLS[1:])
    add(turn("user", "Both?"), turn("assistant", "", tool_calls=[call("get_weather", "{\"city\": \"Paris\"}"), call("ünï", "{}", "call67890")]),
        turn("tool", "21", name="get_weather", tool_call_id="call12345"), turn("tool", {"a": [1]}, name="ünï", tool_call_id="call67890"),
        turn("assistant", "ok"), tools=TOOLS[1:], date_string="01 Jan 2025")
    add(turn("user", [{"type": "text", "text": "What is this? "}, {"type": "audio", "audio_url": "x.wav"}]),
        turn("assistant", [{"type": "text", "text": "A sound."}]),
        turn("user", [{"type": "audio", "audio": "y.wav"}, {"type": "image"}, {"type": "text", "text": "and this?"}]), both=True)
    add(turn("user", [{"type": "video"}]))
    add(turn("user", "Q"), documents=[{"title": "T1", "text": "Text one."}, {"title": "T\"2", "text": "zwei"}])
    add(turn("assistant", "first"))
    add(turn("user", "a"), turn("user", "b"))
    add(turn("tool", "x", tool_call_id="call12345"))
    add(turn("user", "a"), turn("assistant", "b"), turn("system", "late"), turn("user", "c"))
    add()
    add(turn("weird", "x"))
    add({"role": "user"})
    add(turn("user", None))
    add(turn("user", 5))
    add(turn("system", "sys /no_think"), turn("user", "x"), turn("assistant", "y", tool_calls=[call("brave_search", {"query": "z"})]),
        custom_tools=TOOLS[:1], builtin_tools=["code_interpreter", "brave_search"], tools_in_user_message=False,
        controls={"length": "short"}, reasoning_effort="high", model_identity="I am X.")
    add(turn("developer", "dev"), turn("user", "x", tools="[]"), turn("assistant", "y"), turn("user", "z"), thinking=True)
    return result
