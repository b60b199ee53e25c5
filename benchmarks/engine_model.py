"""A model folder that an engine can serve with random weights: 20 million parameters, no download.

The tokenizer is trained on Python's own library; the chat template is laid out as Qwen's: the
system message first, then tool definitions in the same block, then the other messages. `render` is
that template once more, in Python: what is predicted of an engine does not come from the engine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 16_000
TEMPLATE = """\
{%- set lead = messages[0].role == 'system' -%}
{%- if tools -%}
<|im_start|>system
{% if lead %}{{ messages[0].content }}

{% endif %}# Tools
<tools>
{%- for tool in tools %}{{ '\\n' ~ (tool | tojson) }}{% endfor %}{{ '\\n' }}</tools><|im_end|>
{% elif lead -%}
<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if not (lead and loop.first) -%}
<|im_start|>{{ message.role }}
{% set thought = message.reasoning_content or message.reasoning -%}
{%- if thought %}<think>
{{ thought }}
</think>
{% endif %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string \
else call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def make(folder: Path, context: int) -> None:
    """Writes config, tokenizer and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = sorted(Path(os.__file__).parent.glob("*.py"))
    tokenizer.train_from_iterator((path.read_text() for path in sources), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": SPECIAL[2],
                "pad_token": SPECIAL[0],
                "model_max_length": context,
                "chat_template": TEMPLATE,
            }
        )
    )
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["Qwen3ForCausalLM"],
                "model_type": "qwen3",
                "vocab_size": VOCABULARY,
                "hidden_size": 256,
                "intermediate_size": 1024,
                "num_hidden_layers": 8,
                "num_attention_heads": 4,
                "num_key_value_heads": 1,
                "head_dim": 64,
                "hidden_act": "silu",
                "max_position_embeddings": context,
                "rms_norm_eps": 1e-6,
                "rope_theta": 1_000_000.0,
                "tie_word_embeddings": True,
                "torch_dtype": "bfloat16",
                "bos_token_id": 0,
                "eos_token_id": 2,
            }
        )
    )


def render(body: dict[str, Any]) -> str:
    """The prompt of a chat request as the engine's template lays it out."""
    messages, tools = body["messages"], body.get("tools") or []
    lead = messages[0]["role"] == "system"
    found = []
    if tools:
        front = f"{messages[0]['content']}\n\n" if lead else ""
        lines = "".join(f"\n{json.dumps(tool, ensure_ascii=False)}" for tool in tools)
        found.append(f"<|im_start|>system\n{front}# Tools\n<tools>{lines}\n</tools><|im_end|>\n")
    elif lead:
        found.append(f"<|im_start|>system\n{messages[0]['content']}<|im_end|>\n")
    for message in messages[lead:]:
        thought = message.get("reasoning_content")
        think = f"<think>\n{thought}\n</think>\n" if thought else ""
        calls = "".join(_call(call["function"]) for call in message.get("tool_calls") or ())
        text = message.get("content") or ""
        found.append(f"<|im_start|>{message['role']}\n{think}{text}{calls}<|im_end|>\n")
    return "".join(found) + "<|im_start|>assistant\n"


def _call(function: dict[str, str]) -> str:
    # Engines give arguments to the template as an object, not as the text that was sent.
    arguments = json.dumps(json.loads(function["arguments"]), ensure_ascii=False)
    named = f'{{"name": "{function["name"]}", "arguments": {arguments}}}'
    return f"\n<tool_call>\n{named}\n</tool_call>"
