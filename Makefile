# make demo    set up, fetch a real CT with pip, segment it; a phantom where there is no network
# make check   set up and run linters, types and tests
#              VENV=.venv-full EXTRAS=dev,dicom,train,web,pacs,cluster,docs,peers tests all else too
# make test-fast  the tests for daily work, under two minutes
# make fuzz    damaged inputs of every kind for a while: SECONDS=600 SEED=1
# make site    the docs as a site, build/html/index.html
# make bench   the benchmarks that need ../shared
PYTHON ?= python3
VENV ?= .venv
WEIGHTS ?= runs/weights
EXTRAS ?= dev
WORKERS ?= 2
SECONDS ?= 300
SEED ?= 0
BIN = $(VENV)/bin

.PHONY: demo check lint test test-fast fuzz bench weights docs site clean

demo: $(VENV)/installed
	@mkdir -p demo
	@if [ -f demo/sample.nii.gz ] || $(BIN)/viscera sample -o demo; then \
	    $(BIN)/viscera segment demo/sample.nii.gz -o demo/organs.nii.gz \
	        --preview --statistics --report --overwrite; \
	else \
	    $(BIN)/viscera phantom demo/phantom.nii.gz --overwrite && \
	    $(BIN)/viscera segment demo/phantom.nii.gz -o demo/organs.nii.gz \
	        --bundle phantom --preview --statistics --report --overwrite && \
	    echo "This was a generated phantom, no patient." >&2; \
	fi
	@echo "See demo/organs_preview.png" >&2

check: $(VENV)/installed-dev lint test

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow'

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) --seed $(SEED)

docs: $(VENV)/installed-dev
	$(BIN)/python docs/reference.py
	$(BIN)/python benchmarks/front_page.py

site: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python tools/build_site.py

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/results.py build/results
	$(BIN)/python benchmarks/speed.py build/scans
	$(BIN)/python benchmarks/startup.py

# Trains and judges the packaged networks, best on a GPU; a second call goes on. WEIGHTS=folder
weights: $(VENV)/installed-dev
	$(BIN)/python tools/train_packaged.py $(WEIGHTS)
	$(BIN)/python benchmarks/results.py $(WEIGHTS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) .venv-full demo build dist
