package fileset

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers"
)

// Container is a server in a container of this machine. It is found by its name each time, so it may be recreated.
type Container struct {
	Name   string `mapstructure:"name"`   // of the container
	Signal string `mapstructure:"signal"` // sent to its first process; default HUP
	Socket string `mapstructure:"socket"` // of the engine's API; default /run/docker.sock, Podman has /run/podman/podman.sock
}

const (
	defaultSignal    = "HUP"
	defaultEngine    = "/run/docker.sock"
	containerTimeout = time.Minute
	maxReply         = 4096
)

var (
	containerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$`)
	signalName    = regexp.MustCompile(`^(SIG)?[A-Z0-9+]{1,10}$`)
)

func (c *Container) validate() error {
	switch {
	case !containerName.MatchString(c.Name):
		return fmt.Errorf("container.name: %q is not the name of a container", c.Name)
	case c.Signal != "" && !signalName.MatchString(c.Signal):
		return fmt.Errorf("container.signal: %q is not a signal such as HUP or USR1", c.Signal)
	case c.Socket != "" && !filepath.IsAbs(c.Socket):
		return fmt.Errorf("container.socket: %q is not an absolute path", c.Socket)
	}
	return nil
}

// reload sends the signal through the engine's API (Docker Engine API v1.24 and later, "Kill a container"; Podman has the same).
func (c *Container) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, containerTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", cmp.Or(c.Socket, defaultEngine))
	}}}
	target := "http://engine/containers/" + url.PathEscape(c.Name) + "/kill?signal=" + url.QueryEscape(cmp.Or(c.Signal, defaultSignal))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("container engine: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	said, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	switch {
	case response.StatusCode == http.StatusNoContent:
		return nil
	case response.StatusCode == http.StatusConflict:
		return &installers.NotRunningError{Server: "the container " + c.Name}
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("the container engine has no container %s", c.Name)
	case err != nil:
		return fmt.Errorf("container engine: %w", err)
	}
	return fmt.Errorf("container engine: status %d: %s", response.StatusCode, text.Tail(string(said), text.Most))
}
