"""One conversation of the OpenHands SDK, with a sub-agent and a small context, as told by argv."""

from __future__ import annotations

import sys

from openhands.sdk import LLM, Agent, Conversation, Tool, register_agent
from openhands.sdk.context.condenser import LLMSummarizingCondenser
from openhands.tools.file_editor import FileEditorTool
from openhands.tools.task import TaskToolSet
from openhands.tools.terminal import TerminalTool

BASE, REPO, STORE, LOGS, PROMPT = sys.argv[1:]
OURS = "You are a careful programmer in a sample recording of the traj project."
HELPER = "You look things up for another programmer in a sample recording of the traj project."


def model(name: str) -> LLM:
    return LLM(
        model="openai/scripted-1",
        base_url=BASE,
        api_key="sk-scripted",
        usage_id=name,
        log_completions=True,
        log_completions_folder=LOGS,
        num_retries=2,
        retry_min_wait=1,
        retry_max_wait=1,
        max_output_tokens=2000,
    )


def looker(llm: LLM) -> Agent:
    return Agent(llm=llm, tools=[Tool(name=TerminalTool.name)], system_prompt=HELPER)


register_agent("looker", looker, "Looks things up")
agent = Agent(
    llm=model("agent"),
    tools=[
        Tool(name=TerminalTool.name),
        Tool(name=FileEditorTool.name),
        Tool(name=TaskToolSet.name),
    ],
    system_prompt=OURS,
    condenser=LLMSummarizingCondenser(llm=model("condenser"), max_size=14, keep_first=2),
)
conversation = Conversation(agent=agent, workspace=REPO, persistence_dir=STORE, visualizer=None)
conversation.send_message(PROMPT)
conversation.run()
conversation.close()
