package dns01

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
)

// HTTPReqConfig is a service of one's own that is told by POST requests what to set and remove: ENDPOINT/present and
// ENDPOINT/cleanup with {"fqdn":"_acme-challenge.example.com.","value":"..."}, or in raw mode with
// {"domain":"example.com","token":"...","keyAuth":"..."}. Any 2xx answer means done.
type HTTPReqConfig struct {
	Endpoint     string `mapstructure:"endpoint"`
	Raw          bool   `mapstructure:"raw"`
	Username     string `mapstructure:"username"` // for basic authentication
	PasswordFile string `mapstructure:"password_file"`
}

func (c *HTTPReqConfig) validate() error {
	errs := []error{prefix("endpoint", checkEndpoint(c.Endpoint, c.PasswordFile != ""))}
	if (c.Username == "") != (c.PasswordFile == "") {
		errs = append(errs, errors.New("username and password_file go together"))
	}
	if c.PasswordFile != "" && !filepath.IsAbs(c.PasswordFile) {
		errs = append(errs, fmt.Errorf("password_file: %q is not an absolute path", c.PasswordFile))
	}
	return errors.Join(errs...)
}

type httpReq struct {
	config HTTPReqConfig
	poster poster
}

func newHTTPReq(c *HTTPReqConfig) *httpReq { return &httpReq{config: *c, poster: newPoster()} }

// Present asks the service to set the record.
func (p *httpReq) Present(ctx context.Context, r Record) error { return p.send(ctx, "present", r) }

// CleanUp asks the service to remove the record.
func (p *httpReq) CleanUp(ctx context.Context, r Record) error { return p.send(ctx, "cleanup", r) }

func (p *httpReq) send(ctx context.Context, verb string, r Record) error {
	header := http.Header{}
	if p.config.PasswordFile != "" {
		password, err := readSecretFile(p.config.PasswordFile)
		if err != nil {
			return refused(err)
		}
		login := p.config.Username + ":" + string([]byte(password))
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
	}
	body := map[string]string{"fqdn": r.FQDN, "value": r.Value}
	if p.config.Raw {
		body = map[string]string{"domain": r.Domain, "token": r.Token, "keyAuth": r.KeyAuth}
	}
	return p.poster.post(ctx, strings.TrimSuffix(p.config.Endpoint, "/")+"/"+verb, header, body)
}
