# acmed: build, demonstrate, test. Every target installs what it needs (Debian packages as root, Go tools into .cache).

# One way to compile for all but the race detector, which needs C: what the build made serves the tests and the linters.
export CGO_ENABLED := 0
export GOFLAGS     := $(GOFLAGS) -buildvcs=false -trimpath
RACE := env CGO_ENABLED=1 go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
TOOLS   := $(CURDIR)/.cache/bin
LDFLAGS := -s -w -X main.version=$(VERSION)

GOLANGCI_VERSION := v2.6.2
NFPM_VERSION     := v2.43.0
GOVULN_VERSION   := v1.9.0
HCL_VERSION      := v2.24.0
COMPOSE_VERSION  := v2.9.0
RELEASE_GO       := go1.26.10

# What the tests and the demo talk to, as command:package.
DEMO_NEEDS := curl:curl openssl:openssl nginx:nginx-light
TEST_NEEDS := $(DEMO_NEEDS) sshd:openssh-server gcc:gcc gcc:libc6-dev strace:strace haproxy:haproxy named:bind9 apache2:apache2 promtool:prometheus chromium:chromium certutil:libnss3-tools
TEST_NEEDS += podman:podman runc:runc make-ssl-cert:ssl-cert pg_ctlcluster:postgresql postfix:postfix dovecot:dovecot-imapd certbot:certbot certbot:python3-certbot-nginx lego:lego dehydrated:dehydrated caddy:caddy redis-server:redis-server mosquitto:mosquitto keytool:openjdk-17-jre-headless dh_bash-completion:bash-completion zsh:zsh fish:fish certtool:gnutls-bin javac:openjdk-17-jdk-headless gcc:libmbedtls-dev etcd:etcd-server etcdctl:etcd-client

.PHONY: build acmed acmed-dns files packages dist image demo test test-odd fleet chaos lint vuln licenses reproducible sign bench bench-peers docs pictures sweep mass fuzz schema man install deb test-systemd clean

build: acmed acmed-dns ## bin/acmed and bin/acmed-dns; the first build of all DNS providers takes minutes

OUT := $(CURDIR)/bin
acmed: ## bin/acmed alone
	go build -ldflags '$(LDFLAGS)' -o $(OUT)/acmed ./cmd/acmed

acmed-dns:
	cd cmd/acmed-dns && go build -ldflags '$(LDFLAGS)' -o $(OUT)/acmed-dns .

demo: acmed ## the main job end to end, on loopback
	@sh test/needs.sh $(DEMO_NEEDS)
	go build -o bin/testca ./internal/acmetest/cmd/testca
	@bash test/demo/demo.sh bin/acmed bin/testca

test: ## all tests, with the race detector; then a look for secrets in all that came out of them
	@sh test/needs.sh $(TEST_NEEDS)
	@sh test/steps.sh \
		"packages: go run ./test/canary .cache/test-output $(RACE) test -json -race -p 3 -timeout 30m ./test/e2e ./pkg/renewal ./test/chaos ./..." \
		"ten years: ACMED_SEEDS=200 go test -run 'TestTenYears|TestLives|TestShortLives|TestFleetSimulation' ./pkg/renewal" \
		"etcd: go run ./test/canary -optional .cache/test-output-etcd $(RACE) -C pkg/fleet/etcd/etcdtest test -json -race -count=1 -timeout 20m ./..." \
		"acmed-dns: go run ./test/canary .cache/test-output-dns go -C cmd/acmed-dns test -json -count=1 ./..." \
		"systemd: $(MAKE) test-systemd ACMED_SYSTEMD=try"

# The packages whose results could depend on the machine's name, language, clock face or umask.
ODD := ./internal/... ./pkg/certs ./pkg/store ./pkg/config ./pkg/issuer ./pkg/notify ./pkg/challenges/... ./pkg/installers ./pkg/installers/file ./pkg/installers/change ./cmd/acmed ./cmd/acmed/internal/control ./cmd/acmed/internal/web
test-odd: ## a part of the tests on a machine with an odd name, language, time zone and umask; needs root
	@sh test/odd.sh go test -count=1 $(ODD)

SEEDS ?= 1000
fleet: ## the simulation of a fleet with SEEDS seeds
	GOGC=400 ACMED_SEEDS=$(SEEDS) go test -count=1 -run TestFleetSimulation -timeout 60m ./pkg/renewal

chaos: acmed ## fleets on a real etcd: what they cost and how fast they are, then with kills, pauses and restores; takes minutes
	@sh test/needs.sh nginx:nginx-light etcd:etcd-server etcdctl:etcd-client
	go run ./test/chaos bin/acmed

lint: $(TOOLS)/golangci-lint $(TOOLS)/hclfmt $(TOOLS)/compose/cmd vuln
	go mod tidy -diff
	cd cmd/acmed-dns && go mod tidy -diff
	cd pkg/fleet/etcd/etcdtest && go mod tidy -diff
	$(TOOLS)/golangci-lint run ./...
	$(TOOLS)/hclfmt -check deploy/cloud-init/main.tf >/dev/null
	$(TOOLS)/compose/cmd deploy/container/compose.yaml >/dev/null
	go run ./test/supply licenses >.cache/LICENSES.md
	diff -u docs/LICENSES.md .cache/LICENSES.md || { echo "run make licenses"; exit 1; }

vuln: $(TOOLS)/govulncheck ## known vulnerabilities in what is linked, by a pinned snapshot; NEWEST=1 by the newest database
	go run ./test/supply vuln $(TOOLS)/govulncheck $(RELEASE_GO) cmd/acmed cmd/acmed-dns

$(TOOLS)/govulncheck:
	GOBIN=$(TOOLS) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULN_VERSION)

licenses: ## docs/LICENSES.md, and a failure if one is not allowed
	go run ./test/supply licenses >docs/LICENSES.md

reproducible: ## two builds of acmed, the second from nothing, and two of its packages must be the same to the byte
	ACMED_FRESH=1 go test -count=1 -timeout 30m -run TestReproducible -v ./test/supply

KEY ?=
sign: ## dist/SHA256SUMS with KEY, a private key of OpenSSH whose public key is in deploy/release/allowed_signers
	@sh deploy/release/sign.sh '$(KEY)' dist

$(TOOLS)/hclfmt: # the parser of Terraform's language
	GOBIN=$(TOOLS) CGO_ENABLED=0 go install github.com/hashicorp/hcl/v2/cmd/hclfmt@$(HCL_VERSION)

$(TOOLS)/compose/cmd: # the reference parser of Compose files
	GOBIN=$(TOOLS)/compose CGO_ENABLED=0 go install github.com/compose-spec/compose-go/v2/cmd@$(COMPOSE_VERSION)

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

bench: ## side by side, as ratios
	go test -run '^$$' -bench . -benchtime 3x -timeout 30m ./bench/

bench-peers: acmed ## beside other programs, as far as they are installed, against one test CA; needs root
	@sh test/needs.sh nginx:nginx-light
	go run ./bench/peers bin/acmed

docs: ## the documentation as a site, with a search, in dist/site; a link that leads nowhere is an error
	@sh test/needs.sh mkdocs:mkdocs
	@sh deploy/site/build.sh

pictures: ## the pictures of docs/pictures from their text
	@sh test/needs.sh dot:graphviz
	for file in docs/pictures/*.dot; do dot -Tsvg "$$file" -o "$${file%.dot}.svg" || exit; done

STRIDE ?= 1
sweep: acmed ## break the real binary at every state-changing system call of its commands
	@sh test/needs.sh nginx:nginx-light
	go run ./test/sweep -stride $(STRIDE) bin/acmed

N ?= 5000
mass: acmed ## N certificates flagged at once by the CA, with a kill in the middle
	go run ./test/mass -n $(N) bin/acmed

FUZZTIME ?= 60s
fuzz: ## every fuzz target for FUZZTIME
	@sh test/fuzz.sh $(FUZZTIME)

schema: ## docs/openapi.yaml
	go test ./cmd/acmed/internal/control -run TestOpenAPI -update

man: ## manual pages, and the schemas of the configuration, into dist/man
	@rm -rf dist/man && mkdir -p dist/man
	go run -tags manual -ldflags '$(LDFLAGS)' ./cmd/acmed dist/man configs/acmed.yaml configs/installd.yaml
	cd cmd/acmed-dns && go run ./internal/manual/write '$(VERSION)' >../../dist/man/acmed-dns.1
	go run ./internal/schema/write dist/man

install: build man ## everything, into DESTDIR
	@$(MAKE) --no-print-directory files

# The files of "make install", with the programs of the folder BIN. Those of this machine in bin write the completions.
BIN := bin
files:
	install -D -m 0755 -t $(DESTDIR)/usr/bin $(BIN)/acmed $(wildcard $(BIN)/acmed-dns)
	install -D -m 0644 -t $(DESTDIR)/usr/lib/systemd/system deploy/systemd/*.service deploy/systemd/*.socket
	install -D -m 0644 deploy/systemd/acmed.sysusers $(DESTDIR)/usr/lib/sysusers.d/acmed.conf
	install -D -m 0644 deploy/systemd/acmed.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/acmed.conf
	install -D -m 0644 -t $(DESTDIR)/usr/share/man/man1 dist/man/*.1
	install -D -m 0644 -t $(DESTDIR)/usr/share/man/man5 dist/man/*.5
	install -D -m 0644 -t $(DESTDIR)/usr/share/doc/acmed LICENSE CHANGELOG.md configs/acmed.yaml configs/installd.yaml dist/man/*.json
	install -D -m 0644 -t $(DESTDIR)/usr/share/doc/acmed/examples configs/examples/*.yaml
	install -D -m 0644 -t $(DESTDIR)/usr/share/doc/acmed/docs docs/*.md
	install -D -m 0644 docs/openapi.yaml -t $(DESTDIR)/usr/share/doc/acmed/docs
	install -D -m 0644 -t $(DESTDIR)/usr/share/doc/acmed/docs/pictures docs/pictures/*.svg
	for dir in guides errors; do install -D -m 0644 -t $(DESTDIR)/usr/share/doc/acmed/docs/$$dir docs/$$dir/*.md || exit; done
	for program in $(BIN)/acmed $(wildcard $(BIN)/acmed-dns); do go run ./test/supply sbom $$program >$(DESTDIR)/usr/share/doc/acmed/$${program##*/}.cdx.json || exit; done
	go run ./test/supply notices cmd/acmed | gzip -9n >$(DESTDIR)/usr/share/doc/acmed/NOTICES.gz
	for dir in prometheus grafana proxies; do install -D -m 0644 -t $(DESTDIR)/usr/share/doc/acmed/$$dir deploy/$$dir/* || exit; done
	install -d $(DESTDIR)/usr/share/bash-completion/completions $(DESTDIR)/usr/share/zsh/vendor-completions $(DESTDIR)/usr/share/fish/vendor_completions.d
	bin/acmed completion bash >$(DESTDIR)/usr/share/bash-completion/completions/acmed
	bin/acmed completion zsh >$(DESTDIR)/usr/share/zsh/vendor-completions/_acmed
	bin/acmed completion fish >$(DESTDIR)/usr/share/fish/vendor_completions.d/acmed.fish

# FORMATS of ARCHS; with ACMED_DNS=0 without acmed-dns, whose build takes minutes for each architecture.
ENGINE  ?= podman
FORMATS := tar,deb,rpm,archlinux,apk,image
ARCHS   := amd64 arm64 armv7 riscv64
dist: acmed man $(TOOLS)/nfpm ## archives and packages of all architectures, with their checksums, into dist
	@rm -rf dist/acmed[-_]* dist/SHA256SUMS dist/image
	@GOTOOLCHAIN=$(or $(DIST_GO),$(RELEASE_GO)) sh deploy/package/dist.sh '$(VERSION)' $(FORMATS) $(ARCHS)

packages: ## archive and packages of this architecture; with ACMED_DNS=0 without acmed-dns
	@ACMED_DNS=$(or $(ACMED_DNS),1) $(MAKE) dist DIST_GO=local ARCHS=$$(go env GOARCH)

image: acmed man ## the image of a container for this machine's architecture, by ENGINE; with ACMED_DNS=0 without acmed-dns
	@rm -rf dist/image
	@ACMED_DNS=$(or $(ACMED_DNS),1) sh deploy/package/dist.sh '$(VERSION)' image $$(go env GOARCH)
	$(ENGINE) build --build-arg TARGETARCH=$$(go env GOARCH) -t acmed:$(VERSION) -f deploy/container/Containerfile dist/image

deb: ## a Debian package into dist
	@$(MAKE) packages FORMATS=deb

$(TOOLS)/nfpm:
	GOBIN=$(TOOLS) go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)

# Needs root; the first run makes a small Debian in .cache/systemd.
test-systemd: ## the package and the guides under a real systemd, in containers without a network
	@$(MAKE) packages ACMED_DNS=0
	@sh test/needs.sh debootstrap:debootstrap systemd-nspawn:systemd-container bsdtar:libarchive-tools rpm:rpm buildah:buildah
	go build -o bin/testca ./internal/acmetest/cmd/testca
	cd cmd/acmed-dns && go build -o ../../.cache/acmed-dns .
	ACMED_SYSTEMD=$(or $(ACMED_SYSTEMD),1) go run ./test/canary $(if $(filter try,$(ACMED_SYSTEMD)),-optional) .cache/test-output-systemd go test -json -count=1 -timeout 20m ./test/systemd

clean:
	rm -rf bin .cache dist
