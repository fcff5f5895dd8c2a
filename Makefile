# Every target creates what it needs. `make demo` and `make test` work from nothing but Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKDIR ?= demo-work
BENCH ?= bench-work
DATA ?= ../shared/data
QUICK = --out $(BENCH) --docs $(BENCH)/docs
SBOM ?= build/sbom
SITE ?= build/docs
# Hashes of all files of a release, for every platform and Python that pyproject.toml allows.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock"
# One thread per worker: more would only wait for the processors that other workers use.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
# Tests start hundreds of Python processes; each would compile the project again.
unexport PYTHONDONTWRITEBYTECODE
# Workers of the slow half of `make test`: time limits in tests that start Ray are meant for two on two cores.
WORKERS ?= 2
# What lets a user who is not root mount a small disk.
MOUNTING := $(if $(filter-out 0,$(shell id -u)),unshare -rm)

.PHONY: demo init test check types unit faults bench bench-quick openapi lock sbom docs format clean

demo: $(STAMP)  ## Run the main job on bundled data, or with CONFIG=FILE on some rows of a configuration.
	$(BIN)/lmeraser demo --workdir $(WORKDIR) $(if $(CONFIG),--config "$(CONFIG)")

init: $(STAMP)  ## Write site.yaml for the images in FOLDER; PUBLIC and WEIGHTS name public images and weights.
	$(BIN)/lmeraser init "$(FOLDER)" $(if $(PUBLIC),--public "$(PUBLIC)") $(if $(WEIGHTS),--weights "$(WEIGHTS)")

check: $(STAMP)  ## Lint, strict types, unit tests; the types are checked while the tests run.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory -j 2 types unit

types: $(STAMP)  ## Strict types.
	$(BIN)/mypy

unit: $(STAMP)  ## Unit tests. "worksteal" gives each worker neighbouring tests, so that it builds fixtures once.
	$(PYTEST) -m "not ray and not slow" -n auto --dist worksteal

# "loadgroup" keeps the tests of a file that starts Ray on one worker (tests/support/by_file.py), and gives slow tests to
# whichever worker is free.
test: check  ## Everything: check, then the slow tests and those that start Ray, side by side.
	$(PYTEST) -m "slow or ray" -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

faults: $(STAMP)  ## Crashes, failing disks and thousands of histories; writes docs/evidence/.
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/crash_points.py --runs 28 --out docs/evidence/kills.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/rebuild_kills.py --runs 40 --out docs/evidence/kills-rebuild.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/takeovers.py --out docs/evidence/takeovers.md
	OMP_NUM_THREADS=1 $(MOUNTING) $(BIN)/python tests/faults/disk_faults.py --out docs/evidence/disk.md
	$(MOUNTING) $(BIN)/python tests/faults/ray_faults.py --runs 4 --out docs/evidence/kills-ray.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/histories.py --histories 100000 --out docs/evidence/simulator.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/outages.py --replicas 1 2 --out docs/evidence/outages.md
	LMERASER_EXAMPLES=3000 $(BIN)/pytest tests/actors/test_exactness.py --timeout=3600

bench: $(STAMP)  ## Ours against the other methods; writes docs/benchmarks. Takes hours; results in $(BENCH) are not made again.
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_scaling --data $(DATA) --out $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_frontier --data $(DATA) --out $(BENCH) --sweep
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_frontier --data $(DATA) --out $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_frontier --data $(DATA) --out $(BENCH) --setting gtsrb --rows 7120 --seeds 3
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_frontier --data $(DATA) --out $(BENCH) --setting cifar10 --rows 10000 --seeds 3
	$(BIN)/python -m benchmarks.write_tables
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_time_to_erased --data $(DATA) --out $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_after_deletions --data $(DATA) --out $(BENCH)

bench-quick: $(STAMP)  ## The same on the bundled digits alone, one seed; writes $(BENCH)/docs.
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_scaling --setting digits --max-rows 50000 $(QUICK)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_frontier --setting digits --seeds 1 $(QUICK)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_time_to_erased --setting digits --deletions 3 $(QUICK)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_after_deletions --setting digits --seeds 1 --shares 0 25 $(QUICK)

openapi: $(STAMP)  ## Write docs/openapi.json anew.
	LMERASER_WRITE_OPENAPI=1 $(BIN)/pytest tests/serving/test_openapi.py

format: $(STAMP)  ## Put code into its one form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove everything that make created.
	rm -rf $(VENV) $(WORKDIR) $(BENCH) build artifacts *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

lock: $(STAMP)  ## Lock all extras and the tools from pyproject.toml; pinned versions stay.
	$(COMPILE) pyproject.toml --extra all --output-file requirements.txt
	$(COMPILE) pyproject.toml --extra dev --constraints requirements.txt --output-file requirements-dev.txt
	$(COMPILE) --group sbom --constraints requirements-dev.txt --output-file requirements-sbom.txt
	$(COMPILE) --group docs --constraints requirements-dev.txt --output-file requirements-docs.txt

sbom: $(STAMP)  ## What the product is made of, as CycloneDX, and under which licences; writes $(SBOM).
	$(PYTHON) -m venv $(SBOM)/.venv
	$(SBOM)/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-sbom.txt
	$(SBOM)/.venv/bin/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml --output-reproducible --output-file $(SBOM)/sbom.cdx.json
	$(BIN)/pip-licenses --python $(BIN)/python --from mixed --with-urls --order license --format markdown --output-file $(SBOM)/licences.md \
		--packages $$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/\1/p' requirements.txt)

docs: $(STAMP) $(SITE)/.venv/.installed  ## The documentation site, checked strictly; writes $(SITE)/html.
	$(BIN)/python docs/site/stage.py $(SITE)/pages
	$(SITE)/.venv/bin/mkdocs build --quiet --config-file docs/site/mkdocs.yml

$(SITE)/.venv/.installed: requirements-docs.txt
	$(PYTHON) -m venv $(SITE)/.venv
	$(SITE)/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@touch $@

$(STAMP): pyproject.toml requirements-dev.txt
	@echo "Installing into $(VENV); this takes some minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)
