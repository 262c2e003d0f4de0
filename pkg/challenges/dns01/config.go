package dns01

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// Config is the dns-01 section of a solver. Exactly one provider must be given: Provider with EnvFile for those of
// acmed-dns, or one of the sections for those in the daemon.
type Config struct {
	Provider string `mapstructure:"provider"` // a name of `acmed dns list`
	// EnvFile has the provider's variables as NAME=value lines, mode 0600. It is read whenever a worker starts.
	EnvFile string `mapstructure:"env_file"`

	RFC2136 *RFC2136Config `mapstructure:"rfc2136"`
	ACMEDNS *ACMEDNSConfig `mapstructure:"acme-dns"`
	HTTPReq *HTTPReqConfig `mapstructure:"httpreq"`
	Exec    *ExecConfig    `mapstructure:"exec"`

	// FollowCNAME says whether a CNAME at the challenge name leads to where the record goes. Default: when it exists at the
	// name itself, and is not made up by a wildcard of the zone. With false the record goes to the challenge name always,
	// with true wherever a CNAME leads.
	FollowCNAME *bool `mapstructure:"follow_cname"`
	// Resolvers find zones, name servers and CNAME delegations, as host or host:port. Default: those of the system.
	Resolvers []string `mapstructure:"resolvers"`
	// Propagation is what is polled before the CA is told to validate: authoritative (default), resolvers or none.
	Propagation Propagation `mapstructure:"propagation"`
	// PropagationTimeout is how long to wait for all of them, 2m by default, at most 1h.
	PropagationTimeout time.Duration `mapstructure:"propagation_timeout"`
	// PollInterval is the longest pause between two polls, 2s by default.
	PollInterval time.Duration `mapstructure:"poll_interval"`
	// AuthoritativePort is the port of authoritative servers, 53 by default.
	AuthoritativePort uint16 `mapstructure:"authoritative_port"`
	// Timeout bounds one call of a worker or of an exec program, after which it is killed. Default 2m.
	Timeout time.Duration `mapstructure:"timeout"`
}

// The defaults: two minutes is what most providers need at worst, and the patience of lego for most of them.
const (
	defaultPropagationTimeout = 2 * time.Minute
	maxPropagationTimeout     = time.Hour
	defaultPollInterval       = 2 * time.Second
	defaultTimeout            = 2 * time.Minute
)

// Validate reports everything that is wrong with the text of the section. It touches neither disk nor network.
func (c *Config) Validate() error {
	errs := []error{c.validateProvider()}
	for _, r := range c.Resolvers {
		_, err := dnsquery.HostPort(r, "53")
		errs = append(errs, prefix("resolvers", err))
	}
	if !slices.Contains([]Propagation{"", Authoritative, Resolvers, NoPropagation}, c.Propagation) {
		errs = append(errs, fmt.Errorf("propagation: %q is none of authoritative, resolvers, none", c.Propagation))
	}
	if c.PropagationTimeout < 0 || c.PropagationTimeout > maxPropagationTimeout {
		errs = append(errs, fmt.Errorf("propagation_timeout: %s is not between 0s and %s", c.PropagationTimeout, maxPropagationTimeout))
	}
	if c.PollInterval < 0 || c.Timeout < 0 {
		errs = append(errs, errors.New("poll_interval and timeout cannot be negative"))
	}
	return errors.Join(errs...)
}

func (c *Config) validateProvider() error {
	sections := 0
	var errs []error
	if c.RFC2136 != nil {
		sections++
		errs = append(errs, prefix("rfc2136", c.RFC2136.validate()))
	}
	if c.ACMEDNS != nil {
		sections++
		errs = append(errs, prefix("acme-dns", c.ACMEDNS.validate()))
	}
	if c.HTTPReq != nil {
		sections++
		errs = append(errs, prefix("httpreq", c.HTTPReq.validate()))
	}
	if c.Exec != nil {
		sections++
		errs = append(errs, prefix("exec", c.Exec.validate()))
	}
	if c.Provider != "" {
		sections++
		errs = append(errs, c.validateWorker())
	} else if c.EnvFile != "" {
		errs = append(errs, errors.New("env_file goes with provider"))
	}
	if sections != 1 {
		errs = append(errs, errors.New("give exactly one of provider, rfc2136, acme-dns, httpreq and exec"))
	}
	return errors.Join(errs...)
}

func (c *Config) validateWorker() error {
	p, err := catalog.Lookup(c.Provider)
	switch {
	case err != nil:
		return prefix("provider", err)
	case slices.Contains([]string{"rfc2136", "acme-dns", "httpreq", "exec"}, p.Name):
		return fmt.Errorf("provider: %s is built in; instead of provider and env_file write a section %s: {...}", p.Name, p.Name)
	case c.EnvFile != "" && !filepath.IsAbs(c.EnvFile):
		return fmt.Errorf("env_file: %q is not an absolute path", c.EnvFile)
	}
	return nil
}

// Check reads the files that the section names and reports what would keep the provider from working: files that are
// missing or open to others, keys that do not parse, variables that are missing. It does no network request.
func (c *Config) Check() error {
	if err := c.Validate(); err != nil {
		return err
	}
	switch {
	case c.RFC2136 != nil && c.RFC2136.TSIGKeyFile != "":
		_, err := readTSIGKey(c.RFC2136.TSIGKeyFile)
		return err
	case c.ACMEDNS != nil:
		_, err := readAccounts(c.ACMEDNS.AccountsFile)
		return err
	case c.HTTPReq != nil && c.HTTPReq.PasswordFile != "":
		_, err := readSecretFile(c.HTTPReq.PasswordFile)
		return err
	case c.Exec != nil:
		return errors.Join(vetted.Program(c.Exec.Command[0]), envFileError(c.Exec.EnvFile))
	case c.Provider != "":
		env := map[string]string{}
		if c.EnvFile != "" {
			var err error
			if env, err = readEnvFile(c.EnvFile); err != nil {
				return err
			}
		}
		return catalog.Check(c.Provider, env)
	}
	return nil
}

func envFileError(path string) error {
	if path == "" {
		return nil
	}
	_, err := readEnvFile(path)
	return err
}

// Options are what the daemon lends to its solvers.
type Options struct {
	Name    string           // configured name of the solver
	Journal *Journal         // of the state directory
	Locks   *Locks           // one for all solvers of the process
	Worker  string           // absolute path of acmed-dns
	Now     func() time.Time // the clock
	Account bool             // answer dns-account-01 in place of dns-01
}

// New returns the solver of a valid section. It touches neither disk nor network.
func New(c Config, o Options) (*Solver, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("solver %s: %w", o.Name, err)
	}
	if o.Account && c.HTTPReq != nil && c.HTTPReq.Raw {
		return nil, fmt.Errorf("solver %s: httpreq with raw: true does not pass the name on that dns-account-01 needs", o.Name)
	}
	provider, credential := c.provider(o)
	s := &Solver{
		name: o.Name, file: c.credentialFile(), kind: challenges.DNS01, credential: credential, provider: provider, journal: o.Journal, locks: o.Locks, now: o.Now,
		retries: defaultRetries(), resolvers: systemResolvers, pending: map[string]Record{}, follow: c.FollowCNAME,
		wait: propagation{
			kind: c.Propagation, port: strconv.Itoa(int(c.AuthoritativePort)), timeout: c.PropagationTimeout, interval: c.PollInterval, grace: defaultGrace,
			resolver: resolver{servers: c.resolvers()},
		},
	}
	if o.Account {
		s.kind = challenges.DNSAccount01
	}
	if s.wait.kind == "" {
		s.wait.kind = Authoritative
	}
	if c.AuthoritativePort == 0 {
		s.wait.port = "53"
	}
	if s.wait.timeout == 0 {
		s.wait.timeout = defaultPropagationTimeout
	}
	if s.wait.interval == 0 {
		s.wait.interval = defaultPollInterval
	}
	return s, nil
}

// provider builds the one that is configured, and says which credential its lock is for.
func (c *Config) provider(o Options) (p Provider, credential string) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	switch {
	case c.RFC2136 != nil:
		return newRFC2136(c.RFC2136, o.Now), "rfc2136 " + c.RFC2136.Nameserver
	case c.ACMEDNS != nil:
		return newACMEDNS(c.ACMEDNS), "acme-dns " + c.ACMEDNS.Server
	case c.HTTPReq != nil:
		return newHTTPReq(c.HTTPReq), "httpreq " + c.HTTPReq.Endpoint
	case c.Exec != nil:
		return &execProvider{command: c.Exec.Command, envFile: c.Exec.EnvFile, timeout: timeout}, "exec " + strings.Join(c.Exec.Command, " ")
	}
	return newWorker(o.Worker, c.Provider, c.EnvFile, c.resolvers(), timeout), c.Provider + " " + c.EnvFile
}

func (c *Config) credentialFile() string {
	switch {
	case c.RFC2136 != nil:
		return c.RFC2136.TSIGKeyFile
	case c.ACMEDNS != nil:
		return c.ACMEDNS.AccountsFile
	case c.HTTPReq != nil:
		return c.HTTPReq.PasswordFile
	}
	return c.EnvFile
}

func (c *Config) resolvers() []string {
	var list []string
	for _, r := range c.Resolvers {
		addr, _ := dnsquery.HostPort(r, "53") // validated
		list = append(list, addr)
	}
	return list
}

func prefix(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}
