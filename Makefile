# acmed: build, demonstrate, test. Every target installs what it needs (Debian packages as root, Go tools into .cache).

export CGO_ENABLED ?= 1
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
TOOLS   := $(CURDIR)/.cache/bin
LDFLAGS := -s -w -X main.version=$(VERSION)

GOLANGCI_VERSION := v2.6.2

# What the tests and the demo talk to, as command:package.
DEMO_NEEDS := curl:curl openssl:openssl nginx:nginx-light
TEST_NEEDS := $(DEMO_NEEDS) gcc:gcc gcc:libc6-dev strace:strace haproxy:haproxy named:bind9 apache2:apache2

.PHONY: build acmed-dns demo test lint bench sweep fuzz install clean

build: ## bin/acmed
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/acmed ./cmd/acmed

acmed-dns: ## bin/acmed-dns, with every DNS provider; the first build takes minutes
	cd cmd/acmed-dns && CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o ../../bin/acmed-dns .

demo: build ## the main job end to end, on loopback
	@sh test/needs.sh $(DEMO_NEEDS)
	CGO_ENABLED=0 go build -o bin/testca ./internal/acmetest/cmd/testca
	@bash test/demo/demo.sh bin/acmed bin/testca

test: ## all tests, with the race detector
	@sh test/needs.sh $(TEST_NEEDS)
	go test -race ./...
	cd cmd/acmed-dns && go test ./...

lint: $(TOOLS)/golangci-lint
	$(TOOLS)/golangci-lint run ./...

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

bench: ## side by side, as ratios
	go test -run '^$$' -bench . -benchtime 3x -timeout 30m ./bench/

STRIDE ?= 1
sweep: build ## break the real binary at every state-changing system call of a renewal
	@sh test/needs.sh strace:strace
	go run ./test/sweep -stride $(STRIDE) bin/acmed

FUZZTIME ?= 60s
fuzz: ## every fuzz target for FUZZTIME
	@sh test/fuzz.sh $(FUZZTIME)

install: build ## into DESTDIR
	install -D -m 0755 bin/acmed $(DESTDIR)/usr/bin/acmed
	install -D -m 0644 deploy/systemd/acmed.service $(DESTDIR)/lib/systemd/system/acmed.service
	install -D -m 0640 configs/examples/nginx.yaml $(DESTDIR)/etc/acmed/acmed.yaml.example

clean:
	rm -rf bin .cache dist
