# Everything is set up from this project's own files: a fresh machine needs Python 3.11+ and nothing else.
VENV := .venv
RUN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check docs notebooks bench lock clean

demo: $(READY)  ## the main job on built-in images, with its page under runs/demo
	$(RUN)/whymask study glyphs --budgets 10 --worth-budgets 20 30 --pretrain.epochs 4 --out runs/demo

# Tests start many processes: each would compile all of torch anew where the environment forbids keeping that.
test: check  ## lint, types and tests, two files at a time, a thread each
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

docs: $(READY)  ## the documentation as a site, to be opened from disk: build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build

notebooks: $(READY)  ## the outputs of docs/notebooks anew: some minutes
	$(RUN)/python tests/notebooks.py

bench: $(READY)  ## ratios against peers, side by side; prints them and writes bench.json
	$(RUN)/python -m benchmarks

$(READY): pyproject.toml requirements.lock Makefile
	python3 -m venv $(VENV)
	$(RUN)/pip install --quiet uv==0.13.9
	$(RUN)/uv pip install --quiet --python $(RUN)/python --requirement requirements.lock
	$(RUN)/uv pip install --quiet --python $(RUN)/python --no-deps --editable .
	touch $@

lock: $(READY)  ## names and versions of everything, without the registry they came from
	$(RUN)/uv pip compile pyproject.toml --all-extras --group dev --universal --upgrade --quiet \
		--no-header --no-annotate --no-emit-index-url --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist
