"""Made-up secrets of the forms that providers give out, drawn anew at each run: the repository
itself holds none. Check sums are right where the form has one."""

from __future__ import annotations

import base64
import json
import random
import string
import textwrap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

UPPER, DIGITS, HEX = string.ascii_uppercase, string.digits, "0123456789abcdef"
LETTERS = string.ascii_letters
ALNUM = LETTERS + DIGITS
URL_SAFE = ALNUM + "-_"
BASE62 = DIGITS + UPPER + string.ascii_lowercase
CONTEXTS = ("plain", "json", "base64", "diff", "split")


@dataclass(frozen=True)
class Plant:
    """A secret and the words it stands in."""

    kind: str
    secret: str
    text: str


@dataclass(frozen=True)
class Planted:
    """A text with a secret in it, and the pieces of the secret that must not be left."""

    context: str
    text: str
    pieces: tuple[str, ...]

    def left(self, clean: str, width: int = 10) -> bool:
        """Whether as much as `width` characters of a piece are still there."""
        return any(
            piece[i : i + width] in clean
            for piece in self.pieces
            for i in range(max(1, len(piece) - width + 1))
        )


def drawn(rng: random.Random, letters: str, count: int) -> str:
    return "".join(rng.choice(letters) for _ in range(count))


def _summed(rng: random.Random, prefix: str) -> str:
    """As GitHub and npm make them: thirty letters, then their CRC-32 in base 62."""
    body = drawn(rng, ALNUM, 30)
    number, digits = zlib.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return prefix + body + digits.rjust(6, "0")


def _b64(rng: random.Random, count: int) -> str:
    return base64.b64encode(rng.randbytes(count)).decode()


def _pem(rng: random.Random, label: str, count: int, start: str = "MII") -> str:
    body = "\n".join(textwrap.wrap(start + _b64(rng, count), 64))
    return (
        f"-----BEGIN {label} PRIVATE KEY-----\n{body}\n-----END {label} PRIVATE KEY-----".replace(
            "  ", " "
        )
    )


def _jwt(rng: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = part({"alg": "HS256", "typ": "JWT"})
    body = part({"sub": drawn(rng, HEX, 24), "iat": 1_700_000_000 + rng.randrange(10**7)})
    return f"{head}.{body}.{drawn(rng, URL_SAFE, 43)}"


def plants(rng: random.Random) -> list[Plant]:
    """One secret a kind."""
    pem = _pem(rng, "", 1190)
    account = {
        "type": "service_account",
        "project_id": "p-" + drawn(rng, HEX, 6),
        "private_key_id": drawn(rng, HEX, 40),
        "private_key": pem + "\n",
    }
    key_id = "AKIA" + drawn(rng, UPPER + "234567", 16)
    forms = {
        "aws-secret": (
            drawn(rng, ALNUM + "/+", 40),
            f"AWS_ACCESS_KEY_ID={key_id}\nAWS_SECRET_ACCESS_KEY={{}}",
        ),
        "aws-key-id": ("AKIA" + drawn(rng, UPPER + "234567", 16), "the key {} was rejected"),
        "github-pat": (_summed(rng, "ghp_"), "token {} set"),
        "github-fine": (
            f"github_pat_{drawn(rng, ALNUM, 22)}_{drawn(rng, ALNUM, 59)}",
            "use {} here",
        ),
        "gitlab": ("glpat-" + drawn(rng, URL_SAFE, 20), "GITLAB_TOKEN={}"),
        "slack": (
            f"xoxb-{drawn(rng, DIGITS, 12)}-{drawn(rng, DIGITS, 12)}-{drawn(rng, ALNUM, 24)}",
            "slack: {}",
        ),
        "stripe": ("sk_live_" + drawn(rng, ALNUM, 24), 'stripe.api_key = "{}"'),
        "openai": (
            f"sk-proj-{drawn(rng, URL_SAFE, 74)}T3BlbkFJ{drawn(rng, URL_SAFE, 74)}",
            "OPENAI_API_KEY={}",
        ),
        "anthropic": (f"sk-ant-api03-{drawn(rng, URL_SAFE, 93)}AA", "export ANTHROPIC_API_KEY={}"),
        "hugging-face": ("hf_" + drawn(rng, LETTERS, 34), "huggingface-cli login --token {}"),
        "npm": (_summed(rng, "npm_"), "//registry.npmjs.org/:_authToken={}"),
        "pypi": ("pypi-AgEIcHlwaS5vcmc" + drawn(rng, URL_SAFE, 150), "password = {}"),
        "sendgrid": (
            f"SG.{drawn(rng, URL_SAFE, 22)}.{drawn(rng, URL_SAFE, 43)}",
            "SENDGRID_API_KEY={}",
        ),
        "twilio": ("SK" + drawn(rng, HEX, 32), "TWILIO_API_KEY={}"),
        "telegram": (
            f"{drawn(rng, '123456789', 10)}:AA{drawn(rng, URL_SAFE, 33)}",
            "TELEGRAM_BOT_TOKEN={}",
        ),
        "discord": (
            f"MT{drawn(rng, ALNUM, 24)}.G{drawn(rng, ALNUM, 5)}.{drawn(rng, URL_SAFE, 38)}",
            "DISCORD_TOKEN={}",
        ),
        "jwt": (_jwt(rng), "cookie: session={}"),
        "rsa-key": (_pem(rng, "RSA", 1190), "{}"),
        "ssh-key": (_pem(rng, "OPENSSH", 300, "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"), "{}"),
        "azure-storage": (
            _b64(rng, 64),
            "DefaultEndpointsProtocol=https;AccountName=stor12;AccountKey={};EndpointSuffix=x",
        ),
        "database-url": (drawn(rng, ALNUM, 16), "postgres://app:{}@db.internal:5432/prod"),
        "basic-auth-url": (drawn(rng, ALNUM, 14), "git clone https://deploy:{}@git.acme.net/a.git"),
        "google-api": ("AIza" + drawn(rng, URL_SAFE, 35), "https://maps.test/api?key={}&q=1"),
        "datadog": (drawn(rng, HEX, 32), "DD_API_KEY={}"),
        "new-relic": ("NRAK-" + drawn(rng, UPPER + DIGITS, 27), "NEW_RELIC_API_KEY={}"),
        "digitalocean": ("dop_v1_" + drawn(rng, HEX, 64), "doctl auth init -t {}"),
        "shopify": ("shpat_" + drawn(rng, HEX, 32), "X-Shopify-Access-Token: {}"),
        "bearer": (drawn(rng, URL_SAFE, 40), 'curl -H "Authorization: Bearer {}" https://a.test'),
    }
    found = [Plant(kind, secret, text.format(secret)) for kind, (secret, text) in forms.items()]
    escaped = json.dumps(pem)[1:-1]
    return [*found, Plant("gcp-service-account", escaped, json.dumps(account, indent=2))]


def planted(rng: random.Random, plant: Plant) -> Iterator[Planted]:
    """The secret in five contexts. `split`: broken in two by a line break, as terminals break long
    lines; a key of many lines is shown in part, with line numbers."""
    secret, text = plant.secret, plant.text
    yield Planted("plain", f"The file says:\n{text}\nand that is all.", tuple(secret.split("\n")))
    inner = json.dumps(text)[1:-1]
    pieces = tuple(json.dumps(secret)[1:-1].split("\\n"))
    yield Planted("json", f'{{"stdout":"total 4\\n{inner}\\ndone","exit":0}}', pieces)
    run = base64.b64encode(text.encode()).decode()
    yield Planted("base64", f"data:\n  config: {run}\n  kind: Secret", (run,))
    added = "\n".join("+" + line for line in text.split("\n"))
    diff = f"--- a/.env\n+++ b/.env\n@@ -1,2 +1,3 @@\n context\n{added}\n more\n"
    yield Planted("diff", diff, tuple(secret.split("\n")))
    if "\n" in secret:
        shown = [f"{number:6}\t{line}" for number, line in enumerate(text.split("\n")[:-4], 1)]
        yield Planted("split", "\n".join(shown), tuple(secret.split("\n")[:-4]))
    else:
        cut = rng.randrange(len(secret) // 4, 3 * len(secret) // 4 + 1)
        broken = text.replace(secret, f"{secret[:cut]}\n{secret[cut:]}")
        yield Planted("split", f"Output:\n{broken}\nend", (secret[:cut], secret[cut:]))
