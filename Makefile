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

.PHONY: check format test
