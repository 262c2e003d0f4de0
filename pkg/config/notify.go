package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/proxy"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
)

// Notifier is somebody who is told what happens. It has exactly one of url_file, webhook, email and command.
type Notifier struct {
	// Name is how "acmed notify test" and the log refer to the notifier; the rule is that of an issuer's name.
	Name string `mapstructure:"name"`
	// On lists what it is told of: obtained, adopted, failed, limited, install_failed, hook_failed, rolled_back, held,
	// chain_changed, pins_changed, activated, expiring, clock_doubted, recovered. Default: all but obtained and adopted.
	On []string `mapstructure:"on"`
	// Digest sends the state of every certificate daily or weekly as well. Default: never.
	Digest string `mapstructure:"digest"`
	// At is when the digest comes, in local time: "08:00", for a weekly one also "mon 08:00". Default 08:00, on Mondays.
	At string `mapstructure:"at"`
	// URLFile holds the shoutrrr URL of a chat or push service, such as slack://TOKEN@CHANNEL, chmod 600. Optional.
	URLFile string `mapstructure:"url_file"`
	// Webhook posts each event as JSON. Optional.
	Webhook *notify.WebhookConfig `mapstructure:"webhook"`
	// Email sends mail. Optional.
	Email *notify.EmailConfig `mapstructure:"email"`
	// Command runs a program for each event. Optional.
	Command *notify.CommandConfig `mapstructure:"command"`
}

// chatBatch is how many events may go in one message to people.
const chatBatch = 100

// Channel reads the notifier's secrets and makes it. all is the configuration that it is part of. run starts programs; it may
// be nil when nothing will be sent.
func (n *Notifier) Channel(all *Config, run notify.Runner) (c notify.Channel, err error) {
	c = notify.Channel{Name: n.Name, Batch: 1}
	for _, kind := range n.On {
		c.On = append(c.On, notify.Kind(kind))
	}
	if c.Digest, err = notify.ParseSchedule(n.Digest, n.At); err != nil {
		return c, err
	}
	switch {
	case n.URLFile != "":
		c.Type, c.Batch = "url_file", chatBatch
		c.Sender, err = n.url()
	case n.Webhook != nil:
		c.Type = "webhook"
		c.Sender, err = webhook(all, n.Webhook)
	case n.Email != nil:
		c.Type, c.Batch = "email", chatBatch
		c.Sender, err = email(n.Email)
	case n.Command != nil:
		c.Type, c.Sender = "command", notify.NewCommand(*n.Command, run)
	default:
		err = errors.New("it has no section")
	}
	return c, err
}

func (n *Notifier) url() (notify.Sender, error) {
	address, err := ReadSecret(n.URLFile)
	if err != nil {
		return nil, fmt.Errorf("url_file: %w", err)
	}
	sender, err := notify.NewURL(address)
	if err != nil {
		return nil, fmt.Errorf("url_file: %s: %w", n.URLFile, err)
	}
	return sender, nil
}

func webhook(all *Config, c *notify.WebhookConfig) (notify.Sender, error) {
	conf := *c
	all.inheritProxy(&conf.Proxy, &conf.ProxyAuthFile)
	via, err := proxy.URL(conf.Proxy, conf.ProxyAuthFile, ReadSecret)
	if err != nil {
		return nil, err
	}
	var secret certs.Secret
	if c.SecretFile != "" {
		if secret, err = ReadSecret(c.SecretFile); err != nil {
			return nil, fmt.Errorf("secret_file: %w", err)
		}
	}
	return notify.NewWebhook(conf, secret, via, time.Now)
}

func email(c *notify.EmailConfig) (notify.Sender, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		text, err := readFile(c.CAFile, 0o022, maxFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		if settings.RootCAs, err = certs.Pool(text); err != nil {
			return nil, fmt.Errorf("ca_file: %s: %w", c.CAFile, err)
		}
	}
	if c.PasswordFile == "" {
		return notify.NewEmail(*c, nil, settings)
	}
	password, err := ReadSecret(c.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	return notify.NewEmail(*c, password, settings)
}

// notifier checks what can be checked without the disk.
func (v *validator) notifier(path string, n *Notifier) {
	v.name(path, n.Name)
	known := notify.Kinds()
	for i, kind := range n.On {
		if !slices.Contains(known, notify.Kind(kind)) {
			v.report(fmt.Sprintf("%s.on[%d]", path, i), "%s is not one of %s", quote(kind), listed(known))
		}
	}
	if _, err := notify.ParseSchedule(n.Digest, n.At); err != nil {
		v.report(path+".digest", "%s", err)
	}
	kinds := 0
	for _, given := range []bool{n.URLFile != "", n.Webhook != nil, n.Email != nil, n.Command != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		v.report(path, "a notifier has exactly one of url_file, webhook, email and command, this one has %s", count(kinds))
		return
	}
	v.notifierSection(path, n)
}

func (v *validator) notifierSection(path string, n *Notifier) {
	secret := func(key, file string) {
		if file != "" {
			v.check(path+"."+key, checkSecretPath(file))
		}
	}
	switch {
	case n.Webhook != nil:
		v.section(path+".webhook", n.Webhook, n.Webhook.Validate())
		secret("webhook.secret_file", n.Webhook.SecretFile)
		if n.Webhook.SecretFile == "" {
			v.warn(path+".webhook", "events are not signed; add secret_file, so that the receiver knows who sends")
		}
	case n.Email != nil:
		v.section(path+".email", n.Email, n.Email.Validate())
		secret("email.password_file", n.Email.PasswordFile)
		if n.Email.CAFile != "" {
			v.check(path+".email.ca_file", checkPath(n.Email.CAFile))
		}
	case n.Command != nil:
		v.section(path+".command", n.Command, n.Command.Validate())
	default:
		secret("url_file", n.URLFile)
	}
}

// notifierFiles looks whether the secrets of notifiers can be used.
func (v *validator) notifierFiles() {
	for i := range v.c.Notify {
		n := &v.c.Notify[i]
		path := entryPath("notify", n.Name)
		switch {
		case n.Command != nil:
			v.program(path+".command.run", n.Command.Run)
		case n.Webhook != nil:
			v.secret(path+".webhook.secret_file", n.Webhook.SecretFile)
			v.secret(path+".webhook.proxy_auth_file", n.Webhook.ProxyAuthFile)
		case n.Email != nil:
			v.secret(path+".email.password_file", n.Email.PasswordFile)
		}
		if slices.ContainsFunc(v.problems, func(p Problem) bool { return strings.HasPrefix(p.Path, path) }) {
			continue
		}
		_, err := n.Channel(v.c, nil)
		if err == nil {
			continue
		}
		key, message, _ := strings.Cut(err.Error(), ": ")
		switch {
		case n.Webhook != nil:
			key = "webhook." + key
		case n.Email != nil:
			key = "email." + key
		}
		v.report(path+"."+key, "%s", message)
	}
}
