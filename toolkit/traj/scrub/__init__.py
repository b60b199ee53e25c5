"""Secrets and personal data out of sessions, before anything is written.

rules       patterns, allow lists, a team's own
checks      what patterns cannot say
engines     kingfisher and betterleaks
addresses   e-mail, IP, prompts: from their signs
assigned    random values with a telling name in front
views       texts without escapes and wraps, and what Base64 says
detector    all of these over a text, once
redaction   a trajectory's stand-ins; scans again until nothing is left
session     every text of a session

Nothing here prints, logs or quotes what it found: findings hide it from their repr, and errors name
the session, the field and the kind. Nothing goes online.
"""

from __future__ import annotations

from traj.scrub.detector import Detector, open_detector
from traj.scrub.engines import Engines
from traj.scrub.found import ScrubError
from traj.scrub.redaction import Redaction
from traj.scrub.rules import Rules, load_rules
from traj.scrub.session import Scrubbed, scrub_session

__all__ = [
    "Detector",
    "Engines",
    "Redaction",
    "Rules",
    "ScrubError",
    "Scrubbed",
    "load_rules",
    "open_detector",
    "scrub_session",
]
