"""Requests to models as logs and proxies hold them: bodies in, messages and turns out.

    api = requests.api_of(url, body)                  which API, None for other traffic
    asked = requests.asked(api, body, url)            the prompt as messages, tools, sampling
    answered = requests.answered(api, response, body) the answer, streamed or not, and its figures
    requests.chain(session, exchanges)                requests into lanes, by what prompts share

Anthropic Messages, OpenAI chat completions and Responses, Gemini. Nothing here reads a file: a
source of request logs unpacks its own envelope and gives the bodies as they went over the wire
(decoded from gzip and base64).
"""

from __future__ import annotations

from traj.sources.requests.bodies import answered, api_of, asked
from traj.sources.requests.chaining import chain
from traj.sources.requests.spoken import MEANINGS, Answered, Asked, Exchange

__all__ = ("MEANINGS", "Answered", "Asked", "Exchange", "answered", "api_of", "asked", "chain")
