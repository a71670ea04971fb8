# `make help` lists the targets. CI calls the same ones (.ci/run).
#
# A machine needs Go 1.26, make and git. The race detector needs a C compiler
# too; `make test RACE=` does without both.

.DEFAULT_GOAL := help

BIN := bin
# What is made to be published.
BUILD := build

# Flags of the tests.
RACE      ?= -race
TESTFLAGS ?=
# A control plane's tests wait for a real HPA.
CLUSTER_TIMEOUT ?= 40m

# make bench: which, how often, and the older result to compare with.
BENCH ?= .
COUNT ?= 6
BASE  ?=
# make image: for which platforms.
PLATFORMS ?= linux/amd64,linux/arm64
# make release-dry-run, release-version: which version; the chart repository's
# index so far, of which nothing may be lost.
VERSION  ?= $(shell awk '/^version:/ { print $$2 }' charts/keda-kaito-scaler/Chart.yaml)
PREVIOUS ?=
export PREVIOUS
# make sim-report: the folder with Azure's traces, how many seeds, which parts and loads
# (all without); ABLATION=no doesn't play what mechanisms are worth.
TRACES    ?=
SEEDS     ?= 5
PARTS     ?=
SCENARIOS ?=
ABLATION  ?=
export TRACES SEEDS PARTS SCENARIOS ABLATION
# make attack: -only a part of it, -profiles into a folder.
ATTACKFLAGS ?=
# make soak: how long, and further flags, such as -seed=2.
SOAK      ?= 1h
SOAKFLAGS ?=
# make engines, make test-engines: which vLLM, the one that KAITO pins if empty.
VLLM ?=
export VLLM
# make demo: vllm has real engines serve.
ENGINES ?=
# make fuzz: how long each target runs.
FUZZTIME ?= 30s

# Tools are pinned, each in a module of its own, so that none changes another's
# dependencies. The first call builds the tool: a minute or two on two cores.
GOLANGCI_LINT = go tool -modfile=$(CURDIR)/tools/golangci-lint/go.mod golangci-lint
# Modules with Go code of ours. Those under test/cluster pin versions; one of
# them has a program of 60 lines, which to lint would compile cert-manager again.
CODE_MODULES := . test/cluster tools/release
TIDY_MODULES := $(CODE_MODULES) test/cluster/certmanager tools/golangci-lint tools/helm tools/helmdocs tools/benchstat \
	tools/actionlint tools/govulncheck

# Nothing needs C but the race detector: everything else builds the same on a
# machine with no compiler.
export CGO_ENABLED = 0
# A go.work of the user's, somewhere above, must not change what is built.
export GOWORK = off
WITH_RACE = CGO_ENABLED=$(if $(RACE),1,0)

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/keda-kaito-scaler, a static binary
	@# Its version is the clone's, whatever GOFLAGS says of stamping.
	go build -trimpath -buildvcs=auto -ldflags '-s -w' -o $(BIN)/ ./cmd/...

.PHONY: image
image: ## Build the container image without an engine, into build/image: OCI layout, tarballs, SBOMs (PLATFORMS=linux/amd64,linux/arm64)
	@hack/release.sh tool
	$(BIN)/release image -into $(BUILD)/image -platforms $(PLATFORMS)

.PHONY: release-dry-run
release-dry-run: ## Make all of a release in build/release, serve it on loopback and take image and chart from there (VERSION=the chart's; 10 min the first time, then 2)
	DRY_RUN=1 hack/release.sh build $(VERSION)
	hack/release.sh try

.PHONY: release-version
release-version: ## Write a new version to all places that have it, and to CHANGELOG.md: VERSION=0.8.0
	@hack/release.sh tool
	$(BIN)/release set $(VERSION)
	hack/chart.sh render
	hack/chart.sh readme

.PHONY: test
test: compiler browser control-plane ## Run all tests, on a real control plane too (40 min on two cores, 65 the first time; RACE= without a C compiler)
	$(WITH_RACE) go test $(RACE) -shuffle=on $(TESTFLAGS) ./...
	@# What measures time and memory leaves itself out under the race detector.
	$(if $(RACE),go test $(TESTFLAGS) -run 'Hostile|HungScrape' ./internal/scrape)
	@# The image for two platforms: the other one's packages are compiled for the first time here.
	cd tools/release && go test -shuffle=on -timeout 30m $(TESTFLAGS) ./...
	@# Compile on all cores, then test one package at a time: a control plane wants the machine for itself.
	cd test/cluster && $(WITH_RACE) go build $(RACE) ./...
	cd test/cluster && $(WITH_RACE) go test $(RACE) -shuffle=on -p 1 -timeout $(CLUSTER_TIMEOUT) $(TESTFLAGS) ./...

.PHONY: test-unit
test-unit: compiler ## Run the quick tests, those without a control plane
	$(WITH_RACE) go test $(RACE) -shuffle=on -short $(TESTFLAGS) ./...

.PHONY: test-follow
test-follow: control-plane ## See a fleet with nothing but a bound follow a load as the simulator says, on a machine that does nothing else (7 min)
	@# Eight simulated engines under load leave no room for the race detector or other tests.
	cd test/cluster && go test -tags follow -count 1 -timeout 60m $(TESTFLAGS) -run TestABoundAloneFollowsTheLoad ./e2e

.PHONY: test-oldest
test-oldest: ## See the three modes scale on the oldest KEDA that is promised and an HPA without tolerances (first run: half an hour, then under 20 min)
	@cd test/cluster && go build -trimpath -o ../../$(BIN)/programs ./controlplane/programs
	@$(BIN)/programs -oldest
	cd test/cluster && go test -tags oldest -count 1 -timeout 60m $(TESTFLAGS) -run Oldest ./e2e

.PHONY: test-node
test-node: node-parts ## Install the chart on a real node with KEDA in pods, as root (first run: 30 min, then under 10)
	cd test/cluster && go test -tags node -count 1 -timeout 30m $(TESTFLAGS) -exec '$(CURDIR)/hack/node.sh run' ./node

.PHONY: attack
attack: build ## Attack the scaler as hostile pods, tenants and strangers would, and hold it to docs/security.md (first run: 10 min, then under 5)
	@cd test/cluster && go build -trimpath -o ../../$(BIN)/ ./attack ./controlplane/programs
	@$(BIN)/programs -bare
	$(BIN)/attack -binary $(BIN)/keda-kaito-scaler $(ATTACKFLAGS)

.PHONY: soak
soak: control-plane ## Let 200 InferenceSets and three scalers run for an hour while everything around them fails (SOAK=10m for less)
	@cd test/cluster && go build -trimpath -o ../../$(BIN)/soak ./soak
	@# A job of its own, as the demo.
	@if [ -t 0 ]; then set -m; fi; nice $(BIN)/soak -for $(SOAK) $(SOAKFLAGS)

.PHONY: engines
engines: ## Install vLLM's CPU build into the user's cache, for tests on real engines (VLLM=0.25.1; Python 3.10, 5.3 GB of disk, a minute)
	@go build -trimpath -o $(BIN)/ ./test/engine/engines
	@$(BIN)/engines $(if $(VLLM),-version $(VLLM))

.PHONY: test-engines
test-engines: engines control-plane ## See real vLLM engines do what is believed of them, as the simulator says and under a real KEDA and HPA, with a machine of its own (16 min; VLLM=0.25.1)
	@# One after another: what is measured needs the machine for itself.
	$(MAKE) test-engines-simulator
	$(MAKE) test-engines-contract
	$(MAKE) test-engines-quick-start
	$(MAKE) test-engines-loop

.PHONY: test-engines-simulator
test-engines-simulator: engines
	go test -tags engines -count 1 -timeout 30m $(TESTFLAGS) -run 'Plugin|LiveEngine' ./test/engine

.PHONY: test-engines-contract
test-engines-contract: engines
	go test -tags engines -count 1 -timeout 30m $(TESTFLAGS) -parallel 3 -run LiveEngine ./internal/scrape

.PHONY: test-engines-quick-start
test-engines-quick-start: engines control-plane
	cd test/cluster && go test -tags engines -count 1 -timeout 30m $(TESTFLAGS) -run OnRealEngines ./demo

.PHONY: test-engines-loop
test-engines-loop: engines control-plane
	mkdir -p $(BUILD)
	cd test/cluster && PICTURES=$(CURDIR)/$(BUILD) go test -tags engines -count 1 -timeout 30m $(TESTFLAGS) -run OnRealEngines ./engines

.PHONY: engines-capacity
engines-capacity: engines ## Sweep the load of live engines, and see what automatic mode learns of one with an ordinary load, whose pages go to build/pages (24 min, one core; CAPACITY_MINUTES=20 for each rate)
	mkdir -p $(BUILD)/pages
	CAPACITY_MINUTES=$(or $(CAPACITY_MINUTES),20) VLLM=$(VLLM) RECORD_PAGES=$(CURDIR)/$(BUILD)/pages go test -tags engines -count 1 -timeout 60m $(TESTFLAGS) -v -run CapacityByHand ./internal/scrape

.PHONY: engines-trace
engines-trace: engines control-plane ## See automatic mode on live engines through an hour of a trace, speeded up (19 min, one core; TRACES=folder of Azure's TRACE_SPEED=4)
	mkdir -p $(BUILD)
	cd test/cluster && TRACE_SPEED=$(or $(TRACE_SPEED),4) PICTURES=$(CURDIR)/$(BUILD) go test -tags engines -count 1 -timeout 60m $(TESTFLAGS) -v -run ByHandThroughAnHour ./engines

.PHONY: engines-pages
engines-pages: engines ## Record pages of a live vLLM in known states, into build/pages, and see that they say what was so (10 min; VLLM=0.25.1)
	mkdir -p $(BUILD)/pages
	VLLM=$(VLLM) RECORD_PAGES=$(CURDIR)/$(BUILD)/pages go test -tags engines -count 1 -timeout 60m $(TESTFLAGS) -run RecordPages ./internal/scrape

.PHONY: engines-results
engines-results: engines ## Record what clients of live engines see, into build/results, for the simulator's tests (7 min; VLLM=0.25.1)
	mkdir -p $(BUILD)/results
	VLLM=$(VLLM) COMPARE_SECONDS=300 RECORD_RESULTS=$(CURDIR)/$(BUILD)/results go test -tags engines -count 1 -timeout 30m $(TESTFLAGS) -v -run TheSimulatorIsALiveEngine ./test/engine

.PHONY: engines-lock
engines-lock: ## Write the lock file of another vLLM, the newest if none is named, and say in build/vllm which it is (VLLM=0.32.0)
	@python3 -m venv $(BUILD)/uv
	@$(BUILD)/uv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r test/engine/locks/uv.txt
	PATH="$(CURDIR)/$(BUILD)/uv/bin:$$PATH" $(BUILD)/uv/bin/python test/engine/lock.py $(VLLM) > $(BUILD)/vllm

.PHONY: engines-clean
engines-clean: ## Remove every vLLM that make engines installed
	@go build -trimpath -o $(BIN)/ ./test/engine/engines
	@$(BIN)/engines -clean

.PHONY: demo
demo: ## Watch the quick start scale on a real control plane (first run: 15 min, then under 4; ENGINES=vllm for real engines, some minutes more)
	@cd test/cluster && go build -trimpath -o ../../$(BIN)/demo ./demo
	@# At a terminal the demo is a job of its own (set -m): Ctrl-C reaches it alone, and make ends as the demo does.
	@if [ -t 0 ]; then set -m; fi; $(BIN)/demo $(if $(ENGINES),--engines=$(ENGINES)) $(DEMOFLAGS)

.PHONY: lint
lint: ## Run the linters and check the format
	@for module in $(CODE_MODULES); do \
		echo "golangci-lint in $$module"; \
		(cd $$module && $(GOLANGCI_LINT) run --config $(CURDIR)/.golangci.yml ./...) || exit 1; \
	done

.PHONY: fmt
fmt: ## Format the code
	@for module in $(CODE_MODULES); do \
		(cd $$module && $(GOLANGCI_LINT) fmt --config $(CURDIR)/.golangci.yml) || exit 1; \
	done

.PHONY: generate
generate: ## Write what is generated: the golden renders of the chart, the README of its values
	hack/chart.sh render
	hack/chart.sh readme

.PHONY: chart-package
chart-package: ## Write the chart's tarball and a repository's index into build/charts
	hack/chart.sh package $(BUILD)/charts

.PHONY: verify
verify: lint ## Check all that needs no test: linters, go.mod files, the chart, what is generated, scripts
	@for module in $(TIDY_MODULES); do \
		echo "go mod tidy in $$module"; \
		(cd $$module && go mod tidy -diff) || exit 1; \
	done
	hack/chart.sh verify
	@for script in .ci/run hack/*.sh; do bash -n $$script || exit 1; done
	@# Without the linters of scripts that a machine may have or not have.
	go tool -modfile=tools/actionlint/go.mod actionlint -shellcheck= -pyflakes=

.PHONY: vulnerabilities
vulnerabilities: ## Ask Go's database whether a vulnerability reaches our code (needs vuln.go.dev)
	@for module in $(CODE_MODULES); do \
		echo "govulncheck in $$module"; \
		(cd $$module && go tool -modfile=$(CURDIR)/tools/govulncheck/go.mod govulncheck ./...) || exit 1; \
	done

.PHONY: bench
bench: ## Run the benchmarks (BENCH=regexp COUNT=6 BASE=older.txt to compare)
	hack/bench.sh '$(BENCH)' $(COUNT) $(BASE)

.PHONY: sim-report
sim-report: ## Compare scaling policies in simulations, into build/simulation.html (TRACES=folder of Azure's traces SEEDS=5; 75 min on two cores, goes on where it was)
	hack/sim-report.sh $(BUILD)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME=30s
	hack/fuzz.sh $(FUZZTIME)

.PHONY: mutants
mutants: ## Make thirty mistakes in policy and decision, one for each rule, and see whether a test notices (10 min)
	go run ./test/mutants

.PHONY: clean
clean: ## Remove what was built here (the control plane stays in the user's cache)
	rm -rf $(BIN) $(BUILD)

# Built here and not by go test, which would keep the progress to itself.
.PHONY: control-plane
control-plane:
	@cd test/cluster && go build -trimpath -o ../../$(BIN)/programs ./controlplane/programs
	@$(BIN)/programs

# The simulation's report is looked at in a real browser.
.PHONY: browser
browser:
	@hack/browser.sh

# All that has to be built or downloaded: the node's own network leads nowhere.
.PHONY: node-parts
node-parts:
	@hack/node.sh packages
	@cd test/cluster && go build -trimpath -o ../../$(BIN)/programs ./controlplane/programs
	@$(BIN)/programs -node
	cd test/cluster && go build -trimpath -ldflags '-s -w' -o ../../$(BUILD)/node/ ./node/pause ./node/vllm ./earlier
	@# As go tool builds it, so that it is compiled once.
	go build -modfile=tools/helm/go.mod -o $(BUILD)/node/helm helm.sh/helm/v4/cmd/helm
	@hack/release.sh tool
	$(BIN)/release image -into $(BUILD)/node/image -platforms linux/$(shell go env GOARCH)

.PHONY: compiler
compiler:
	@$(if $(RACE),hack/compiler.sh,:)
