package fileset

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers"
)

// Container is a server in a container of this machine. It is found by its name or label each time, so it may be recreated.
type Container struct {
	Name   string   `mapstructure:"name"`   // of the container
	Label  string   `mapstructure:"label"`  // KEY=VALUE that it has, instead of a name; several containers may have it
	Signal string   `mapstructure:"signal"` // sent to its first process; default HUP
	Exec   []string `mapstructure:"exec"`   // program with its arguments to run in it, instead of a signal
	Socket string   `mapstructure:"socket"` // of the engine's API; default /run/docker.sock, Podman has /run/podman/podman.sock
}

const (
	defaultSignal    = "HUP"
	defaultEngine    = "/run/docker.sock"
	containerTimeout = time.Minute
	maxReply         = 1 << 20
)

var (
	containerName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$`)
	containerLabel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]{0,254}=[A-Za-z0-9_.:/@+-]{0,254}$`)
	signalName     = regexp.MustCompile(`^(SIG)?[A-Z0-9+]{1,10}$`)
)

func (c *Container) validate() error {
	switch {
	case (c.Name == "") == (c.Label == ""):
		return errors.New("container: give one of name and label")
	case c.Name != "" && !containerName.MatchString(c.Name):
		return fmt.Errorf("container.name: %q is not the name of a container", c.Name)
	case c.Label != "" && !containerLabel.MatchString(c.Label):
		return fmt.Errorf("container.label: %q is not KEY=VALUE", c.Label)
	case c.Socket != "" && !filepath.IsAbs(c.Socket):
		return fmt.Errorf("container.socket: %q is not an absolute path", c.Socket)
	}
	return c.validateAction()
}

func (c *Container) validateAction() error {
	switch {
	case c.Signal != "" && len(c.Exec) > 0:
		return errors.New("container: give one of signal and exec")
	case c.Signal != "" && !signalName.MatchString(c.Signal):
		return fmt.Errorf("container.signal: %q is not a signal such as HUP or USR1", c.Signal)
	case len(c.Exec) > 0 && c.Exec[0] == "":
		return errors.New("container.exec: the program is missing")
	}
	return nil
}

// title is how errors call it.
func (c *Container) title() string {
	if c.Name != "" {
		return "the container " + c.Name
	}
	return "a container with the label " + c.Label
}

// engine is the API of a container engine (Docker Engine API v1.24 and later; Podman has the same paths).
type engine struct{ client *http.Client }

func (c *Container) engine() engine {
	return engine{&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", cmp.Or(c.Socket, defaultEngine))
	}}}}
}

// call asks for one thing and returns status and answer.
func (e engine) call(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	content, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("container engine: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return 0, nil, fmt.Errorf("container engine: %w", err)
	}
	return response.StatusCode, answer, nil
}

// examine asks whether the container is there and runs.
func (c *Container) examine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, containerTimeout)
	defer cancel()
	e := c.engine()
	if c.Label != "" {
		_, err := c.labeled(ctx, e)
		return err
	}
	status, said, err := e.call(ctx, http.MethodGet, "/containers/"+url.PathEscape(c.Name)+"/json", nil)
	if err := c.judge(status, http.StatusOK, said, err); err != nil {
		return err
	}
	var found struct{ State struct{ Running bool } }
	if err := json.Unmarshal(said, &found); err != nil {
		return fmt.Errorf("container engine: %w", err)
	}
	if !found.State.Running {
		return &installers.NotRunningError{Server: c.title()}
	}
	return nil
}

// reload makes the server read its files.
func (c *Container) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, containerTimeout)
	defer cancel()
	e := c.engine()
	ids := []string{c.Name}
	if c.Label != "" {
		var err error
		if ids, err = c.labeled(ctx, e); err != nil {
			return err
		}
	}
	var errs []error
	for _, id := range ids {
		if len(c.Exec) > 0 {
			errs = append(errs, c.run(ctx, e, id))
		} else {
			status, said, err := e.call(ctx, http.MethodPost, "/containers/"+url.PathEscape(id)+"/kill?signal="+url.QueryEscape(cmp.Or(c.Signal, defaultSignal)), nil)
			errs = append(errs, c.judge(status, http.StatusNoContent, said, err))
		}
	}
	return errors.Join(errs...)
}

// stoppedInPodman is in Podman's answer about a container that does not run.
const stoppedInPodman = "container state improper"

// judge makes an error of what the engine answered.
func (c *Container) judge(status, want int, said []byte, err error) error {
	switch {
	case err != nil || status == want:
		return err
	case status == http.StatusConflict, strings.Contains(string(said), stoppedInPodman):
		return &installers.NotRunningError{Server: c.title()}
	case status == http.StatusNotFound:
		return fmt.Errorf("the container engine does not have %s", c.title())
	}
	return fmt.Errorf("container engine: status %d: %s", status, text.Tail(string(said), text.Most))
}

// labeled are the identifiers of the running containers with the label.
func (c *Container) labeled(ctx context.Context, e engine) (ids []string, err error) {
	filters, err := json.Marshal(map[string][]string{"label": {c.Label}})
	if err != nil {
		return nil, err
	}
	status, said, err := e.call(ctx, http.MethodGet, "/containers/json?all=true&filters="+url.QueryEscape(string(filters)), nil)
	if err := c.judge(status, http.StatusOK, said, err); err != nil {
		return nil, err
	}
	var list []struct{ ID, State string } // "Id" in the answer
	if err := json.Unmarshal(said, &list); err != nil {
		return nil, fmt.Errorf("container engine: %w", err)
	}
	for _, one := range list {
		if strings.EqualFold(one.State, "running") {
			ids = append(ids, one.ID)
		}
	}
	switch {
	case len(list) == 0:
		return nil, c.judge(http.StatusNotFound, http.StatusOK, nil, nil)
	case len(ids) == 0:
		return nil, &installers.NotRunningError{Server: c.title()}
	}
	return ids, nil
}

// run runs the program in a container and waits for its end ("Create an exec instance", "Start", "Inspect").
func (c *Container) run(ctx context.Context, e engine, id string) error {
	status, said, err := e.call(ctx, http.MethodPost, "/containers/"+url.PathEscape(id)+"/exec",
		map[string]any{"Cmd": c.Exec, "AttachStdout": true, "AttachStderr": true})
	if err := c.judge(status, http.StatusCreated, said, err); err != nil {
		return err
	}
	var made struct{ ID string } // "Id" in the answer
	if err := json.Unmarshal(said, &made); err != nil || made.ID == "" {
		return fmt.Errorf("container engine: no identifier of the program in %q", text.Tail(string(said), text.Most))
	}
	path := "/exec/" + url.PathEscape(made.ID)
	status, output, err := e.call(ctx, http.MethodPost, path+"/start", map[string]any{"Detach": false, "Tty": false})
	if err := c.judge(status, http.StatusOK, output, err); err != nil {
		return err
	}
	status, said, err = e.call(ctx, http.MethodGet, path+"/json", nil)
	if err := c.judge(status, http.StatusOK, said, err); err != nil {
		return err
	}
	var end struct{ ExitCode *int }
	if err := json.Unmarshal(said, &end); err != nil || end.ExitCode == nil {
		return fmt.Errorf("container engine: no exit code of %s in %q", c.Exec[0], text.Tail(string(said), text.Most))
	}
	if *end.ExitCode != 0 {
		return fmt.Errorf("%s in %s: exit status %d: %s", c.Exec[0], c.title(), *end.ExitCode, text.Tail(string(demultiplex(output)), text.Most))
	}
	return nil
}

// frameHeader is how many bytes stand before each piece of output: which stream it is, three zeros, and its length.
const frameHeader = 8

// demultiplex joins the pieces of output; what does not look like pieces is returned as it is.
func demultiplex(output []byte) []byte {
	var joined []byte
	for rest := output; len(rest) > 0; {
		if len(rest) < frameHeader || rest[0] > 2 || rest[1]|rest[2]|rest[3] != 0 {
			return output
		}
		size := int(rest[4])<<24 | int(rest[5])<<16 | int(rest[6])<<8 | int(rest[7])
		rest = rest[frameHeader:]
		size = min(size, len(rest))
		joined, rest = append(joined, rest[:size]...), rest[size:]
	}
	return joined
}
