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

.PHONY: check docs format test
