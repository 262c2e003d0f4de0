package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
	"github.com/acmed/acmed/pkg/installers/apache"
	"github.com/acmed/acmed/pkg/installers/command"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/installers/haproxy"
	"github.com/acmed/acmed/pkg/installers/helper"
	"github.com/acmed/acmed/pkg/installers/imperva"
	"github.com/acmed/acmed/pkg/installers/nginx"
	"github.com/acmed/acmed/pkg/installers/ssh"
)

// Config is acmed.yaml with everything that it includes. Durations are whole numbers with a unit (90s, 72h, 30d, 1d12h),
// paths are absolute, and where a list of words is written below, key_type and include also take a single word.
type Config struct {
	// Email is where the CA sends notices about the account. CAs keep one account for each address. Optional.
	Email string `mapstructure:"email"`
	// AgreeTOS says that you have read the terms of service of the CAs that you use and agree. It must be true unless
	// every certificate comes from issuers with private: true. Default false.
	AgreeTOS bool `mapstructure:"agree_tos"`
	// Include lists further files by patterns relative to this file's directory, such as conf.d/*.yaml. A pattern ends in
	// .yaml and may have wildcards in its last part only; files whose names begin with a dot are left out. The files are
	// read in the order of their names. Each may add issuers, solvers and certificates, and may set what no other file
	// sets. Only the main file may include. Optional.
	Include Words `mapstructure:"include"`
	// StateDir is the directory for accounts, keys and certificates. It must exist, and belong to the user that runs
	// acmed. Default /var/lib/acmed.
	StateDir string `mapstructure:"state_dir"`
	// Socket is the unix socket over which the commands talk to the daemon. Default /run/acmed/acmed.sock.
	Socket string `mapstructure:"socket"`
	// Log says what is logged and how. Optional.
	Log Log `mapstructure:"log"`
	// Renewal says when certificates are looked at and renewed. Optional.
	Renewal Renewal `mapstructure:"renewal"`
	// Web is the status page, with metrics and a health check, read only. Optional: without it there is none.
	Web Web `mapstructure:"web"`
	// Preflight says what happens before the first order for a name: acmed looks at the name as a CA would. With advisory,
	// solvers that should fail are tried last; with enforce, also nothing is ordered for a name that no solver should prove;
	// "off" looks at nothing. A name that a solver proved before is not looked at again. Default advisory.
	Preflight string `mapstructure:"preflight"`
	// Fleet shares certificates with other machines. Optional: without it this machine works alone.
	Fleet *Fleet `mapstructure:"fleet"`
	// Probe says how preflights and "acmed doctor" look at names. Optional.
	Probe Probe `mapstructure:"probe"`
	// Proxy is the URL of the proxy through which CAs, webhooks and Imperva are reached: http, https or socks5. The
	// environment has no say. Default: none, a direct connection.
	Proxy string `mapstructure:"proxy"`
	// ProxyAuthFile holds USER:PASSWORD for proxy, chmod 600. Optional.
	ProxyAuthFile string `mapstructure:"proxy_auth_file"`
	// Issuers lists CAs besides the built-in ones: letsencrypt, letsencrypt-staging, zerossl, google, buypass, sslcom. An
	// entry with the name of a built-in one adds to it, for example its account binding. Optional.
	Issuers []Issuer `mapstructure:"issuers"`
	// Solvers lists ways to prove control of a name besides the built-in ones: http-01, which listens on :80, and
	// tls-alpn-01, which listens on :443. An entry with the name of a built-in one replaces it. Optional.
	Solvers []Solver `mapstructure:"solvers"`
	// Trust lists what clients trust, so that a new certificate never breaks them. Optional.
	Trust []TrustStore `mapstructure:"trust"`
	// Notify lists who is told what happens: chat services, webhooks, mail addresses, programs. The log has it in any case.
	// Optional.
	Notify []Notifier `mapstructure:"notify"`
	// Defaults holds what certificates use when they do not say otherwise. Optional.
	Defaults Defaults `mapstructure:"defaults"`
	// Certificates lists the certificates to obtain, renew and install.
	Certificates []Certificate `mapstructure:"certificates"`

	kept  []string          // see Kept
	lost  []lostFile        // see Lost
	texts map[string][]byte // of the included files in use
}

// Log configures the log, which goes to standard error.
type Log struct {
	// Level is the least important kind of line that is written: debug, info, warn or error. Default info.
	Level string `mapstructure:"level"`
	// Format is console, for people, or json, one object on each line. Default console.
	Format string `mapstructure:"format"`
}

// Web configures the HTTP server with the status page (/), metrics for Prometheus (/metrics) and health checks (/healthz, /livez).
// It asks for no password and has no TLS: who reaches the address can read it. For others than this machine, put a web
// server with a login in front.
type Web struct {
	// Listen is the address to answer on, IP:PORT or :PORT; 127.0.0.1:9540 is usual. Default: none, the server is off.
	Listen string `mapstructure:"listen"`
	// Hosts lists the names by which browsers and monitoring may call the server, besides its addresses and localhost. A
	// request for any other name is refused, because pages on other sites could read the answer. Optional.
	Hosts []string `mapstructure:"hosts"`
}

// Renewal configures the sweep, which looks at every certificate and does what is due.
type Renewal struct {
	// Before is the remaining lifetime at which a certificate is renewed. As long as it is 30d, certificates with a
	// lifetime below 90 days are renewed when a third remains, and those below 10 days when half remains; another value
	// holds for all, up to two thirds of the lifetime. A CA that asks for it gets it earlier. Default 30d.
	Before time.Duration `mapstructure:"before"`
	// Schedule says when sweeps begin, in local time: five cron fields, or @hourly, @daily, @every 30m. Default @hourly.
	Schedule string `mapstructure:"schedule"`
	// Splay delays the sweeps by a time drawn once at start between zero and this, so that not all machines ask the CA in
	// the same second. At most 24h. Default 30m.
	Splay time.Duration `mapstructure:"splay"`
	// Concurrency is how many certificates are worked on at a time, 1 to 256. Default 8.
	Concurrency int `mapstructure:"concurrency"`
	// Window is when ordinary renewals may happen. A renewal waits for it until half of its time is gone, and no longer.
	// Default: at any time.
	Window *Window `mapstructure:"window"`
	// Keep is how many earlier versions of each certificate stay on disk, 1 to 1000. Default 5.
	Keep int `mapstructure:"keep"`
}

// Window is a recurring span of time.
type Window struct {
	// Schedule says when it opens, in local time: five cron fields, or @daily and the like.
	Schedule string `mapstructure:"schedule"`
	// Length is how long it stays open, 10m to 31d.
	Length time.Duration `mapstructure:"length"`
}

// Probe says how names are looked at.
type Probe struct {
	// Resolver is the DNS server that is asked, IP or IP:PORT. Where names have other addresses inside than outside, it is
	// one that answers as for a CA. Default: the first of /etc/resolv.conf.
	Resolver string `mapstructure:"resolver"`
	// HTTPPort is where the CA connects for http-01. Only test CAs differ from the default 80.
	HTTPPort uint16 `mapstructure:"http_port"`
	// TLSPort is where the CA connects for tls-alpn-01. Only test CAs differ from the default 443.
	TLSPort uint16 `mapstructure:"tls_port"`
	// Timeout is for one connection and its answer. Default 5s in a preflight, 10s for the doctor.
	Timeout time.Duration `mapstructure:"timeout"`
}

// Issuer is one CA that speaks ACME (RFC 8555).
type Issuer struct {
	// Name is how certificates refer to the issuer: a-z, 0-9 and after the first character also . _ -, at most 64.
	Name string `mapstructure:"name"`
	// Directory is the https URL of the CA's ACME directory. Optional for the name of a built-in issuer.
	Directory string `mapstructure:"directory"`
	// Staging is the https URL of the CA's test directory, which "acmed renew --dry-run --staging" uses. Default: the known
	// one of letsencrypt, google and buypass; else none.
	Staging string `mapstructure:"staging"`
	// CAFile is a PEM file with the roots that the directory's own TLS certificate is checked against. Default: the
	// system's trust store.
	CAFile string `mapstructure:"ca_file"`
	// Email is the address of the account at this CA. Default: email at the top.
	Email string `mapstructure:"email"`
	// Private says that the CA is not a public one: it may certify names such as db.internal and private addresses, and
	// agree_tos is not needed. Default false.
	Private bool `mapstructure:"private"`
	// Preflight replaces preflight at the top for this CA. Default: preflight at the top, "off" for a private CA, whose view
	// of the network is seldom this machine's.
	Preflight string `mapstructure:"preflight"`
	// Proxy replaces proxy at the top for this CA; "none" is a direct connection. Default: proxy at the top.
	Proxy string `mapstructure:"proxy"`
	// ProxyAuthFile holds USER:PASSWORD for the issuer's own proxy, chmod 600. Optional.
	ProxyAuthFile string `mapstructure:"proxy_auth_file"`
	// Hosts lists further hosts, NAME or NAME:PORT, on which the CA has URLs: one behind a balancer may name others in its
	// directory. Every other host is refused. Optional.
	Hosts []string `mapstructure:"hosts"`
	// EAB binds the account to one that you have at the CA (RFC 8555 section 7.3.4). Optional; zerossl, google and sslcom
	// open no account without it.
	EAB *EAB `mapstructure:"eab"`
	// MinLifetime is the shortest lifetime of a certificate that is accepted from this CA. Default 1h.
	MinLifetime time.Duration `mapstructure:"min_lifetime"`
	// OrdersPer3h is the most new orders that acmed places at this CA within three hours; -1 is no limit. Default 300,
	// which is the limit of letsencrypt, 1500 for letsencrypt-staging, and -1 for private CAs.
	OrdersPer3h int `mapstructure:"orders_per_3h"`
}

// EAB is an external account binding. The CA shows both values in its own user interface.
type EAB struct {
	// KID is the key identifier.
	KID string `mapstructure:"kid"`
	// HMACFile is a file with the HMAC key in base64url, at least 32 bytes of key. Only its owner may read it
	// (chmod 600). $CREDENTIALS_DIRECTORY/NAME stands for the systemd credential NAME.
	HMACFile string `mapstructure:"hmac_file"`
	// Algorithm is how the binding is signed: HS256, HS384 or HS512. Default HS256, which every CA takes.
	Algorithm string `mapstructure:"algorithm"`
}

// Solver is one way to prove control of a name. It has exactly one of the sections http-01, tls-alpn-01 and dns-01.
type Solver struct {
	// Name is how certificates refer to the solver; the rule is that of an issuer's name.
	Name string `mapstructure:"name"`
	// Zones lists the only domains that the solver is used for, each with everything below it. Default: all.
	Zones []string `mapstructure:"zones"`
	// HTTP01 answers over plain HTTP on port 80 (RFC 8555 section 8.3). Optional.
	HTTP01 *HTTP01 `mapstructure:"http-01"`
	// TLSALPN01 answers in a TLS handshake on port 443 (RFC 8737). Optional.
	TLSALPN01 *TLSALPN01 `mapstructure:"tls-alpn-01"`
	// DNS01 answers with a TXT record (RFC 8555 section 8.4), the only way to prove a wildcard. It names a provider of
	// acmed-dns, with the file of that account's variables, or has one of the sections rfc2136, acme-dns, httpreq and exec.
	// Optional.
	DNS01 *dns01.Config `mapstructure:"dns-01"`
	// DNSAccount01 is dns-01 with a record at a name of the account's own, so that several accounts do not get in each
	// other's way. It has the settings of dns-01, and few CAs offer it. Optional.
	DNSAccount01 *dns01.Config `mapstructure:"dns-account-01"`
	// DNSPersist01 relies on a TXT record that you publish once and that stays; acmed needs no credentials. "acmed account
	// show" prints it. Few CAs offer it. Optional.
	DNSPersist01 *dnspersist01.Config `mapstructure:"dns-persist-01"`
}

// HTTP01 configures an http-01 solver: acmed listens itself, or writes files that a web server serves, or leaves the
// answer to a proxy in front. At most one of listen, webroot, challenge_dir and stateless is given.
type HTTP01 struct {
	// Listen is the address to answer on: IP:PORT, :PORT, or unix:/PATH for a socket that a proxy forwards to. It is bound
	// only while challenges are pending. Solvers with the same address share it. Default :80.
	Listen string `mapstructure:"listen"`
	// ProxyProtocol lists the addresses and networks of load balancers whose PROXY protocol header is believed. Optional.
	ProxyProtocol []string `mapstructure:"proxy_protocol"`
	// Webroot is the document root of a web server that serves the names on port 80; the answers are written to
	// .well-known/acme-challenge below it. A path that ends so is that directory itself. Optional.
	Webroot string `mapstructure:"webroot"`
	// ChallengeDir is the directory that a web server serves as /.well-known/acme-challenge/, in place of webroot. Optional.
	ChallengeDir string `mapstructure:"challenge_dir"`
	// FollowLinks follows a symbolic link in place of .well-known or acme-challenge in the webroot, when what it leads to has
	// the owner of the link. Default false.
	FollowLinks bool `mapstructure:"follow_links"`
	// Stateless says that a proxy or CDN in front answers every challenge by itself with the account's thumbprint; see
	// "acmed snippet --stateless". Default false.
	Stateless bool `mapstructure:"stateless"`
	// OneNode says that in a fleet the certificates with this webroot are configured on one node only. Default false.
	OneNode bool `mapstructure:"one_node"`
}

// TLSALPN01 configures a tls-alpn-01 solver.
type TLSALPN01 struct {
	// Listen is the address to answer on, IP:PORT or :PORT. It is bound only while challenges are pending. Solvers with
	// the same address share it. Default :443.
	Listen string `mapstructure:"listen"`
}

// Defaults holds what certificates use when they do not say otherwise.
type Defaults struct {
	// Issuers lists issuers in order of preference; the next one is asked when one stays unavailable. Default
	// letsencrypt.
	Issuers []string `mapstructure:"issuers"`
	// KeyType is the type of private keys; see a certificate's key_type. Default ec256.
	KeyType KeyTypes `mapstructure:"key_type"`
	// Solvers lists solvers in order of preference; the next one is tried when a name fails with one. Default http-01,
	// then tls-alpn-01.
	Solvers []string `mapstructure:"solvers"`
	// RenewBefore is the remaining lifetime at which certificates are renewed, whatever their lifetime. Default: the rule
	// under renewal.
	RenewBefore time.Duration `mapstructure:"renew_before"`
}

// Certificate is one wanted certificate.
type Certificate struct {
	// Name is what commands, logs and the directory below state_dir call the certificate: a-z, 0-9 and after the first
	// character also . _ -, at most 64.
	Name string `mapstructure:"name"`
	// Names lists the 1 to 100 DNS names, wildcards and IP addresses that the certificate is for. Internationalised names
	// may be written as such. Wildcards need a dns-01 solver.
	Names []string `mapstructure:"names"`
	// Issuers replaces defaults.issuers. Optional.
	Issuers []string `mapstructure:"issuers"`
	// Solvers replaces defaults.solvers. Optional.
	Solvers []string `mapstructure:"solvers"`
	// KeyType is ec256, ec384, rsa2048, rsa3072 or rsa4096, or a list of one EC and one RSA type for a certificate of
	// each, kept together. Default: defaults.key_type.
	KeyType KeyTypes `mapstructure:"key_type"`
	// ReuseKey keeps the private key on renewal, for clients that pin it. Default false.
	ReuseKey bool `mapstructure:"reuse_key"`
	// NextKey makes the private key of the next certificate ahead, so that clients that pin keys can learn it before: "acmed
	// chain NAME --pins" prints both. With reuse_key it is used after a compromise. With notice, a key goes live no earlier
	// than so long after it was made. Default false; true with tlsa.
	NextKey bool `mapstructure:"next_key"`
	// OneNode says that no other node of the fleet has this certificate in its configuration. In a fleet, next_key and tlsa need
	// it, because nodes do not share the next key. Default false.
	OneNode bool `mapstructure:"one_node"`
	// TLSA publishes records for clients that pin keys by DNS (DANE, RFC 6698). Optional.
	TLSA *TLSA `mapstructure:"tlsa"`
	// MustStaple asks for the extension by which clients insist on a stapled OCSP answer (RFC 7633). Few CAs still have
	// it. Default false.
	MustStaple bool `mapstructure:"must_staple"`
	// Profile is the CA's certificate profile to ask for, such as shortlived. Default: none, the CA chooses.
	Profile string `mapstructure:"profile"`
	// PreferredChain is the common name of a root or intermediate; among the chains that the CA offers, the first that has
	// it is used. Default: the CA's first chain.
	PreferredChain string `mapstructure:"preferred_chain"`
	// CSRFile is a certificate signing request, PEM or DER, for a key that acmed never sees. It must be for the very names
	// above. Not together with key_type, reuse_key, next_key, tlsa and must_staple. Optional.
	CSRFile string `mapstructure:"csr_file"`
	// Trust lists the trust stores of clients that must always be able to connect. A new certificate is served with the
	// first chain that all of them accept. If there is none, the next issuer is asked, and otherwise the new certificate
	// is held back and the old one stays. Optional.
	Trust []string `mapstructure:"trust"`
	// OnUntrusted says until when a certificate is held back that a client would refuse: hold, until the active one ends,
	// or activate-before-expiry=3d, so long before. Default hold.
	OnUntrusted string `mapstructure:"on_untrusted"`
	// Notice is how long a new certificate waits whose intermediate or root is another one, after that was announced by
	// the event chain_changed. It never waits into the last tenth of the lifetime of the active one. Default: not at all.
	Notice time.Duration `mapstructure:"notice"`
	// Lifetime asks for a certificate that is valid this long, at CAs that let their clients choose. Default: the CA
	// chooses.
	Lifetime time.Duration `mapstructure:"lifetime"`
	// RenewBefore replaces defaults.renew_before. Optional.
	RenewBefore time.Duration `mapstructure:"renew_before"`
	// Window replaces renewal.window. Optional.
	Window *Window `mapstructure:"window"`
	// Install lists where the certificate is put, in order. Optional: without it the files below state_dir are all.
	Install []Install `mapstructure:"install"`
	// Hooks are programs to run before an order and after everything that follows it. Optional.
	Hooks *Hooks `mapstructure:"hooks"`

	csr *x509.CertificateRequest // what csr_file holds
}

// Hooks are programs around the renewal of one certificate. Each is a list: the absolute path first, then the arguments.
// No shell reads it. What the programs learn from their environment is the same as for the command section of install.
type Hooks struct {
	// Pre runs before a certificate is ordered. When it fails, nothing is ordered, and it is tried again like an order that
	// failed. Optional.
	Pre []string `mapstructure:"pre"`
	// Post runs once a new certificate is in use at all places in install. When it fails, the certificate stays, its state
	// is hook-failed, and the program is tried again after 1, 10 and 100 minutes, then daily. Optional.
	Post []string `mapstructure:"post"`
	// Timeout is how long each may run. Default 5m.
	Timeout time.Duration `mapstructure:"timeout"`
}

// Validate reports everything that is wrong with the hooks at once.
func (h *Hooks) Validate() error {
	errs := []error{command.CheckArgv("pre", h.Pre), command.CheckArgv("post", h.Post)}
	if h.Timeout < 0 || h.Timeout > 0 && h.Timeout < time.Second {
		errs = append(errs, fmt.Errorf("timeout: %s is shorter than a second", h.Timeout))
	}
	return errors.Join(errs...)
}

// Install is one place that serves a certificate. It has exactly one of the sections.
type Install struct {
	// Nginx edits the server blocks of an nginx on this machine and reloads it. Optional.
	Nginx *nginx.Config `mapstructure:"nginx"`
	// Apache edits the virtual hosts of an Apache on this machine and reloads it. Optional.
	Apache *apache.Config `mapstructure:"apache"`
	// Helper leaves the installation to acmed-installd, which runs as root on this machine and has the target in its own
	// configuration, installd.yaml. Optional.
	Helper *helper.Config `mapstructure:"helper"`
	// File writes the certificate to files of your choice and runs a command. Optional.
	File *file.Config `mapstructure:"file"`
	// HAProxy writes the file of an HAProxy on this machine, and hands it to the running process. Optional.
	HAProxy *haproxy.Config `mapstructure:"haproxy"`
	// Imperva uploads the certificate to a site of the Imperva (Incapsula) Cloud WAF. Optional.
	Imperva *imperva.Config `mapstructure:"imperva"`
	// SSH writes the certificate to files of another machine and runs a command there. Optional.
	SSH *ssh.Config `mapstructure:"ssh"`
	// Command runs a program of yours that installs the certificate. Optional.
	Command *command.Config `mapstructure:"command"`
}

// Words is a list of words that may be written as a single one.
type Words []string

// KeyTypes is one key type, or an EC and an RSA type. It may be written as a single word.
type KeyTypes []certs.KeyType
