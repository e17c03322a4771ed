// SPDX-License-Identifier: Apache-2.0
// chat_oracle.mjs: @huggingface/jinja's answers to the jobs of chat_oracle.py, a JSON object a line
// each: {"text"} or {"error"}.
import { createInterface } from 'node:readline';

import { Template } from '@huggingface/jinja';

function render(job) {
    return new Template(job.template).render({
        bos_token: job.bos,
        eos_token: job.eos,
        messages: job.messages,
        add_generation_prompt: job.add_generation_prompt,
        tools: job.tools,
        documents: null,
        ...job.variables,
    });
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    let answer;
    try {
        answer = { text: render(JSON.parse(line)) };
    } catch (error) {
        answer = { error: String(error.message) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
}
