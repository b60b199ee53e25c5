# The chores of the house. `make check` is what CI runs after the tests.

check:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format:
	ruff check --fix .
	ruff format .

test:
	pytest

# The pages that are made from the code; a test holds them to it.
docs:
	python -m traj.report.exports > docs/targets.md
	python -m traj.report.sources > docs/sources.md
	python -m benchmarks.results benchmarks/results/sources.json > docs/corpus.md

# Changed logs against one parser for a minute: make fuzz FORMAT=codex (needs atheris).
FORMAT ?= claude_code
fuzz:
	python tests/fuzz_sources.py $(FORMAT) 60

.PHONY: check docs format fuzz test
