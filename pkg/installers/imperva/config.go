package imperva

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/proxy"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// Config is one site of the Cloud WAF. Secrets are read from files when they are needed.
type Config struct {
	SiteID     int    `mapstructure:"site_id"`      // numeric identifier of the site
	APIID      string `mapstructure:"api_id"`       // identifier of the API key
	APIKeyFile string `mapstructure:"api_key_file"` // holds the API key; it needs the permission to manage SSL certificates

	PassphraseFile string `mapstructure:"passphrase_file"` // sent along as passphrase, for accounts that ask for one; optional
	AllowUncovered bool   `mapstructure:"allow_uncovered"` // no warning when the certificate does not cover all domains of the site

	BaseURL string        `mapstructure:"base_url"` // https; default https://my.imperva.com
	CAFile  string        `mapstructure:"ca_file"`  // roots for the API's own certificate; default: the system's
	Timeout time.Duration `mapstructure:"timeout"`  // bound on one request; default 1m

	Proxy         string `mapstructure:"proxy"`           // http, https or socks5; none: a direct connection; default: proxy at the top
	ProxyAuthFile string `mapstructure:"proxy_auth_file"` // holds USER:PASSWORD for it, chmod 600; optional

	Verify        []string      `mapstructure:"verify"`         // endpoints; default: port 443 of the first name that is no wildcard
	VerifyTimeout time.Duration `mapstructure:"verify_timeout"` // how long the cloud may take to serve it; default 10m
}

const (
	defaultBaseURL = "https://my.imperva.com"
	defaultTimeout = time.Minute
	defaultWait    = 10 * time.Minute
)

var apiID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate reports everything that is wrong with the configuration at once. It touches neither network nor disk.
func (c *Config) Validate() error {
	var errs []error
	if c.SiteID <= 0 {
		errs = append(errs, errors.New("site_id: the number of the site is missing; Imperva's console shows it"))
	}
	if !apiID.MatchString(c.APIID) {
		errs = append(errs, errors.New("api_id: it is not the identifier of an API key; Imperva's console shows it beside the name of the key"))
	}
	if c.APIKeyFile == "" {
		errs = append(errs, errors.New("api_key_file: the file with the API key is missing"))
	}
	for _, f := range []struct{ key, path string }{{"api_key_file", c.APIKeyFile}, {"passphrase_file", c.PassphraseFile}, {"proxy_auth_file", c.ProxyAuthFile}} {
		if f.path != "" && !filepath.IsAbs(f.path) && !strings.HasPrefix(f.path, "$CREDENTIALS_DIRECTORY/") {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", f.key, f.path))
		}
	}
	if c.CAFile != "" && !filepath.IsAbs(c.CAFile) {
		errs = append(errs, fmt.Errorf("ca_file: %q is not an absolute path", c.CAFile))
	}
	if err := proxy.Check(c.Proxy); err != nil {
		errs = append(errs, fmt.Errorf("proxy: %w", err))
	}
	return errors.Join(append(errs, c.checkURL(), c.checkVerify())...)
}

func (c *Config) checkURL() error {
	if c.BaseURL == "" {
		return nil
	}
	u, err := url.Parse(c.BaseURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("base_url: want a URL such as https://my.imperva.com, without user, query and fragment")
	}
	return nil
}

func (c *Config) checkVerify() error {
	var errs []error
	if _, err := endpoint.ParseAll(c.Verify, nil); err != nil {
		errs = append(errs, fmt.Errorf("verify: %w", err))
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"timeout", c.Timeout}, {"verify_timeout", c.VerifyTimeout}} {
		if d.d < 0 || d.d > 0 && d.d < time.Second {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than a second", d.key, d.d))
		}
	}
	return errors.Join(errs...)
}

// withDefaults fills in what the operator left out.
func (c Config) withDefaults() Config {
	if c.BaseURL == "" {
		c.BaseURL = defaultBaseURL
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.VerifyTimeout == 0 {
		c.VerifyTimeout = defaultWait
	}
	return c
}
