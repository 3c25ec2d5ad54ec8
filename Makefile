# make course   the whole tiny course: set up, prepare data, pretrain, let it write, finetune, practise, learn taste, report (runs/lecture.html, and runs/*/report.html)
# make test     set up, run the tests
# make parity   the model and the optimizers against PyTorch and transformers (installed where that brings no CUDA)
# make lint     ruff and mypy
# make lock     resolve requirements.lock anew from pyproject.toml (needs uv)

PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: course test parity lint lock setup

course: setup
	$(RUN) -m launch.train --config=experiments/pretrain/tiny.py --workdir=runs/course
	$(RUN) -m launch.report --workdir=runs/course
	$(RUN) -m launch.generate --workdir=runs/course --prompt="Bruno Lockwood works as a" --samples=3
	$(RUN) -m launch.generate --workdir=runs/course --prompt="Orson Kovats was born in the city of" --samples=3
	$(RUN) -m launch.train --config=experiments/sft/tiny.py --workdir=runs/assistant --config.start_from=runs/course
	$(RUN) -m launch.report --workdir=runs/assistant
	$(RUN) -m launch.train --config=experiments/rl/tiny.py --workdir=runs/practice --config.start_from=runs/assistant
	$(RUN) -m launch.report --workdir=runs/practice
	$(RUN) -m launch.train --config=experiments/reward/tiny.py --workdir=runs/reward --config.start_from=runs/assistant
	$(RUN) -m launch.report --workdir=runs/reward
	$(RUN) -m launch.train --config=experiments/rlhf/tiny.py --workdir=runs/rlhf --config.start_from=runs/assistant --config.data.taste.models='("runs/reward",)'
	$(RUN) -m launch.report --workdir=runs/rlhf
	$(RUN) -m launch.arena --runs=base=runs/course,assistant=runs/assistant,practice=runs/practice,pleasing=runs/rlhf@best,pleasing-on=runs/rlhf,int8=runs/assistant:int8 --prompts=jokes --judge=rule:data_pipeline.taste:gold --max_tokens=64 --out=runs/arena
	$(RUN) -m launch.lecture --runs=runs/course,runs/assistant,runs/practice,runs/reward,runs/rlhf,runs/arena --out=runs/lecture.html

test: setup
	$(RUN) -m pytest -n 2 --dist loadfile -rs --durations=30 --durations-min=5

# -rs: what is skipped for want of PyTorch is told with its reason.
parity: setup
	$(RUN) tests/parity/install.py
	$(RUN) -m pytest -n 2 --dist loadfile -rs tests/parity

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or later is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --disable-pip-version-check --progress-bar=off -r requirements.lock
	$(RUN) -m pip install --disable-pip-version-check --progress-bar=off --no-deps --editable .
	@touch $@

lock:
	uv pip compile --universal --python-version=3.11 --extra=dev --no-emit-index-url --no-emit-find-links --no-header --no-annotate --output-file=requirements.lock pyproject.toml
