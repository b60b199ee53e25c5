"""What any load of a record's text loses, whatever the harness: kinds and reasons."""

from __future__ import annotations

SENT = {
    "cut": "requests from the first one on that is longer than --max-context",
    "empty": "trajectories without an answered request to send",
    "generated": "requests of trajectories without text: words of the recorded lengths stand in "
    "place of their messages, and share what cached lengths say",
    "guessed_sharing": "of these, requests of which nobody told the cached part: one that is "
    "longer than the one before in its context goes on from it, any other shares nothing",
    "unmeasured": "of these, requests of which nobody told the length: as long as the one before",
    "failed_turn": "no answer is recorded; the time it took is part of the next request's delay",
}
FILLED = {
    "overlong": "requests whose text has more tokens than the provider counted: sent as it is",
    "unfilled": "requests that lack something and have no new message to put it behind",
}
TEXT = {
    "attachment": "images and documents are not stored, so their messages go without them",
    "empty_prompt": "requests of whose prompt the record holds nothing: an empty message goes in "
    "the user's name, since harnesses leave out a request without messages",
    "hidden_reasoning": "earlier reasoning was sent in encrypted form, which the record lacks",
    "system_role": "system messages are taken at a prompt's start alone; later ones go as user",
    "tool_definition": "a provider's own tool has no form in a chat-completions request",
    "unseen_input": "contexts whose prompt was longer than what the record holds of it",
}
