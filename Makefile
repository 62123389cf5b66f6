# make demo    set up and segment a scan: the shared CT where it is there, else a phantom
# make check   set up and run linters, types and tests; EXTRAS=dev,train tests training too
# make bench   the benchmarks that need ../shared
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
BIN = $(VENV)/bin
SHARED_CT = ../shared/data/tcia_colorectal_liver_metastases/CRLM-CT-1006/ct.nii.gz

.PHONY: demo check lint test bench docs clean

demo: $(VENV)/installed
	@mkdir -p demo
ifneq ($(wildcard $(SHARED_CT)),)
	$(BIN)/viscera segment $(SHARED_CT) -o demo/organs.nii.gz \
	    --bundle examples/bundles/flare25_dw --preview --statistics --report --overwrite
else
	$(BIN)/viscera phantom demo/phantom.nii.gz --overwrite
	$(BIN)/viscera segment demo/phantom.nii.gz -o demo/organs.nii.gz \
	    --bundle phantom --preview --statistics --report --overwrite
	@echo "This was a generated phantom, no patient." >&2
endif
	@echo "See demo/organs_preview.png" >&2

check: $(VENV)/installed-dev lint test

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

docs: $(VENV)/installed-dev
	$(BIN)/python docs/reference.py

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/segment_stages.py
	$(BIN)/python benchmarks/startup.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) demo build dist
