package nginx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// build is what an nginx binary says about itself.
type build struct {
	config, prefix, errorLog, pidFile string
	http2                             http2Form
}

// firstDirective is the version from which on "http2" is a directive of its own.
func firstDirective() []int { return []int{1, 25, 1} }

var (
	versionPattern = regexp.MustCompile(`nginx version: [^/\s]+/(\d+)\.(\d+)\.(\d+)`)
	optionPattern  = regexp.MustCompile(`--(prefix|conf-path|error-log-path|pid-path)=(\S+)`)
)

// inspect asks the binary for its version and its paths. Without an answer the operator's own settings have to do.
func (c *Config) inspect(ctx context.Context, ask func(context.Context, installers.Command) ([]byte, error)) (build, error) {
	out, err := ask(ctx, installers.Command{Argv: []string{c.Binary, "-V"}, Timeout: c.Timeout, WithStderr: true})
	var info build
	if err == nil {
		info, err = parseBuild(string(out))
	}
	if err != nil && (c.Config == "" || c.HTTP2) {
		return build{}, fmt.Errorf("ask nginx for its version and paths: %w", err)
	}
	webserver.SetDefault(&info.prefix, "/usr/local/nginx")
	webserver.SetDefault(&info.config, "conf/nginx.conf")
	webserver.SetDefault(&info.errorLog, "logs/error.log")
	webserver.SetDefault(&info.pidFile, "logs/nginx.pid")
	if c.Prefix != "" {
		info.prefix = c.Prefix
	}
	if c.Config != "" {
		info.config = c.Config
	}
	info.config = under(info.prefix, info.config)
	return info, nil
}

func parseBuild(text string) (build, error) {
	var info build
	v := versionPattern.FindStringSubmatch(text)
	if v == nil {
		return info, errors.New("the answer of nginx -V has no version")
	}
	version := make([]int, 3)
	for i := range version {
		version[i], _ = strconv.Atoi(v[i+1]) // digits only; a number that overflows is newer than all
	}
	if slices.Compare(version, firstDirective()) < 0 {
		info.http2 = http2Param
	}
	for _, m := range optionPattern.FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "prefix":
			info.prefix = m[2]
		case "conf-path":
			info.config = m[2]
		case "error-log-path":
			info.errorLog = m[2]
		case "pid-path":
			info.pidFile = m[2]
		}
	}
	return info, nil
}

// ownPIDFile is the pid file of nginx's configuration, or the one that the binary was built with.
func (c *Config) ownPIDFile(ctx context.Context) (string, error) {
	info, err := c.inspect(ctx, func(ctx context.Context, question installers.Command) ([]byte, error) { return question.Run(ctx) })
	if err != nil {
		return "", err
	}
	t, err := load(info.config, nil)
	if err != nil {
		return "", err
	}
	path := info.pidFile
	err = t.walk(t.main.root, func(d *directive) error {
		if d.is("pid") {
			path = d.words[1].value
		}
		return nil
	})
	return under(info.prefix, path), err
}

func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
