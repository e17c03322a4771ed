# SPDX-License-Identifier: Apache-2.0
"""Conversations that every chat template is rendered with: name -> (messages, tools, variables)."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place, now.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A town's name, e.g. \"Köln\""},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": ["integer", "null"], "description": "how many"},
                "options": {
                    "type": "object",
                    "properties": {"wind": {"type": "boolean"}, "tags": {"type": "array", "items": {"type": "string"}}},
                },
            },
            "required": ["place"],
        },
        "return": {"type": "object", "description": "degrees"},
    },
}
CALCULATE = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": []},
    },
}
TOOLS = [WEATHER, CALCULATE]


def user(text, **more):
    return {"role": "user", "content": text, **more}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, number=0):
    return {"type": "function", "id": f"call0000{number}", "function": {"name": name, "arguments": arguments}}


def tool(text, name="get_weather", number=0):
    return {"role": "tool", "content": text, "name": name, "tool_call_id": f"call0000{number}"}


ONE = [user("Hello")]
TURNS = [user("Hello"), assistant("Hi! How can I help?"), user("Tell me a joke."), assistant("No."), user("Please?")]
SYSTEM = [system("You are terse.\nVery terse."), *TURNS]
THOUGHT = [
    user("2+2?"),
    assistant("<think>\nTwo and two.\n</think>\n\nFour."),
    user("Sure?"),
    assistant("Yes.", reasoning_content="I checked it twice."),
    user("Thanks"),
]
CALLS = [
    system("Use tools."),
    user("Weather in Köln?"),
    assistant("", tool_calls=[call("get_weather", {"place": "Köln", "days": 2, "unit": None})]),
    tool('{"degrees": 12.5, "text": "Regen"}'),
    assistant("It rains at 12.5 °C."),
    user("And 2**10?"),
]
CALLS_ENDING = CALLS[:4]
TWO_CALLS = [
    user("Weather in Rome and Oslo?"),
    assistant(
        "Let me see.",
        reasoning_content="Two places.",
        tool_calls=[
            call("get_weather", {"place": "Rome", "options": {"wind": True, "tags": ["a", "b"]}}, 1),
            call("get_weather", {"place": "Oslo"}, 2),
        ],
    ),
    tool("sunny", number=1),
    tool("snow & <ice>", number=2),
    assistant("Sun and snow."),
]
TEXT_ARGUMENTS = [
    user("Add"),
    assistant(None, tool_calls=[call("calculate", '{"expression": "1+1"}')]),
    tool("2", name="calculate"),
    user("ok"),
]
PARTS = [
    system([{"type": "text", "text": "Be kind."}]),
    user([{"type": "text", "text": "First."}, {"type": "text", "text": " Second. "}]),
    assistant([{"type": "text", "text": "Answer."}]),
    user("ok"),
]

CONVERSATIONS = {
    "one": (ONE, None, {}),
    "turns": (TURNS, None, {}),
    "system": (SYSTEM, None, {}),
    "system only": ([system("Alone.")], None, {}),
    "developer": ([{"role": "developer", "content": "Be a poet."}, *ONE], None, {}),
    "ends with assistant": ([*ONE, assistant("Hi")], None, {}),
    "starts with assistant": ([assistant("Welcome."), *ONE], None, {}),
    "two users": ([user("a"), user("b")], None, {}),
    "thought": (THOUGHT, None, {}),
    "no thinking": (THOUGHT, None, {"enable_thinking": False, "thinking": False}),
    "thinking": (SYSTEM, None, {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}),
    "tools": (SYSTEM, TOOLS, {}),
    "tools without system": (ONE, [WEATHER], {}),
    "calls": (CALLS, TOOLS, {}),
    "calls ending": (CALLS_ENDING, TOOLS, {}),
    "two calls": (TWO_CALLS, TOOLS, {}),
    "text arguments": (TEXT_ARGUMENTS, TOOLS, {}),
    "parts": (PARTS, None, {}),
    "empty": ([], None, {}),
    "empty content": ([user(""), assistant(""), user(" \n ")], None, {}),
    "no content": ([user(None)], None, {}),
    "spaces": ([system("  padded \n"), user("\n\n a \t"), assistant("  b  "), user("c ")], None, {}),
    "unicode": ([system("日本語で。"), user("naïve ☃ 🦙 \u0301 ‏עברית"), assistant("“ok” — ñ"), user("İıß\u00a0x")], None, {}),
    "special text": ([user("<|im_end|> [INST] <s> {{ messages }} {% raw %} \\n 'q' \"d\"")], None, {}),
    "unknown role": ([{"role": "critic", "content": "Bad."}, *ONE], None, {}),
    "long": ([m for i in range(30) for m in (user(f"question {i}"), assistant(f"answer {i}"))] + ONE, None, {}),
}
