package file

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/fileset"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// engine answers on a unix socket, whose path is short enough for one, until the test ends.
func engine(t *testing.T, answers http.Handler) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "eng")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answers}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}

// TestContainer asks an engine that answers as the Docker Engine API documents "Kill a container": 204, 404 without the
// container, 409 when it does not run.
func TestContainer(t *testing.T) {
	status, asked := http.StatusNoContent, ""
	socket := engine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		w.WriteHeader(status)
	}))

	target, _, _ := installertest.Live(t, "a.example")
	c := Config{Dir: t.TempDir(), Container: &fileset.Container{Name: "web", Socket: socket}}
	p, err := New(c, target)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Install(t.Context(), installertest.Bundle(t, "a.example")); err != nil || asked != "POST /containers/web/kill?signal=HUP" {
		t.Errorf("%v after %q", err, asked)
	}
	key := filepath.Join(c.Dir, "privkey.pem")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	status = http.StatusNotFound
	if err := p.Install(t.Context(), installertest.Bundle(t, "a.example")); err == nil || !strings.Contains(err.Error(), "does not have the container web") {
		t.Errorf("without the container: %v", err)
	}
	if now, err := os.ReadFile(key); err != nil || string(now) != string(before) {
		t.Errorf("the key was not put back: %v", err)
	}
	status = http.StatusConflict
	var stopped *installers.NotRunningError
	if err := p.Install(t.Context(), installertest.Bundle(t, "a.example")); !errors.As(err, &stopped) {
		t.Errorf("a stopped container: %v", err)
	}
	for _, bad := range []Config{
		{Dir: "/d", Container: &fileset.Container{Name: "../x"}}, {Dir: "/d", Container: &fileset.Container{Name: "x", Signal: "H U"}},
		{Dir: "/d", Unit: "x", Container: &fileset.Container{Name: "x"}},
		{Dir: "/d", Container: &fileset.Container{}}, {Dir: "/d", Container: &fileset.Container{Name: "x", Label: "a=b"}},
		{Dir: "/d", Container: &fileset.Container{Label: "a"}}, {Dir: "/d", Container: &fileset.Container{Name: "x", Signal: "HUP", Exec: []string{"/x"}}},
	} {
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), "container") {
			t.Errorf("%+v: %v", bad.Container, err)
		}
	}
}

// fakeEngine answers as the Docker Engine API documents the lists of containers and the running of programs in them.
type fakeEngine struct {
	mu         sync.Mutex
	containers map[string]string // state by identifier; all have the label service=web
	ran        []string
	exit       int
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/containers/json":
		list := []map[string]string{}
		for id, state := range f.containers {
			if r.URL.Query().Get("filters") == `{"label":["service=web"]}` {
				list = append(list, map[string]string{"Id": id, "State": state})
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	case parts[0] == "containers" && f.containers[parts[1]] == "":
		w.WriteHeader(http.StatusNotFound)
	case parts[len(parts)-1] == "json" && parts[0] == "containers":
		_ = json.NewEncoder(w).Encode(map[string]any{"State": map[string]bool{"Running": f.containers[parts[1]] == "running"}})
	case parts[0] == "containers" && f.containers[parts[1]] != "running":
		w.WriteHeader(http.StatusConflict)
	case parts[0] == "containers":
		var wanted struct{ Cmd []string }
		_ = json.NewDecoder(r.Body).Decode(&wanted)
		f.ran = append(f.ran, parts[1]+": "+parts[2]+" "+strings.Join(wanted.Cmd, " "))
		if parts[2] == "kill" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"Id":"e1"}`)
	case strings.HasSuffix(r.URL.Path, "/start"):
		_, _ = w.Write(append([]byte{2, 0, 0, 0, 0, 0, 0, 4}, "no!\n"...))
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"Running": false, "ExitCode": f.exit})
	}
}

// TestContainerByLabel: a program is run in every running container with a label, whatever it is called by now.
func TestContainerByLabel(t *testing.T) {
	f := &fakeEngine{containers: map[string]string{"aaa": "running"}}
	socket := engine(t, f)
	target, _, _ := installertest.Live(t, "a.example")
	c := Config{Dir: t.TempDir(), Container: &fileset.Container{Label: "service=web", Exec: []string{"nginx", "-s", "reload"}, Socket: socket}}
	examine := func() error {
		t.Helper()
		var errs []error
		for _, container := range []fileset.Container{{Label: "service=web"}, {Name: "aaa"}} {
			container.Socket = socket
			p, err := New(Config{Dir: c.Dir, Container: &container}, target)
			if err != nil {
				t.Fatal(err)
			}
			errs = append(errs, p.Examine(t.Context()))
		}
		return errors.Join(errs...)
	}
	if err := examine(); err != nil || len(f.ran) > 0 {
		t.Errorf("%v after %q", err, f.ran)
	}
	install := func() ([]string, error) {
		f.ran = nil
		p, err := New(c, target)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Install(t.Context(), installertest.Bundle(t, "a.example"))
		slices.Sort(f.ran)
		return f.ran, err
	}
	if ran, err := install(); err != nil || !slices.Equal(ran, []string{"aaa: exec nginx -s reload"}) {
		t.Errorf("%v after %q", err, ran)
	}
	f.containers = map[string]string{"bbb": "running", "ccc": "running", "ddd": "exited"} // recreated, with a replica
	if ran, err := install(); err != nil || !slices.Equal(ran, []string{"bbb: exec nginx -s reload", "ccc: exec nginx -s reload"}) {
		t.Errorf("%v after %q", err, ran)
	}
	f.exit = 1
	if _, err := install(); err == nil || !strings.Contains(err.Error(), "exit status 1: no!") {
		t.Errorf("with a failing program: %v", err)
	}
	f.containers = map[string]string{"aaa": "exited"}
	if err := examine(); err == nil || strings.Count(err.Error(), "is not running") != 2 {
		t.Errorf("stopped: %v", err)
	}
	f.containers = map[string]string{"ddd": "exited"}
	var stopped *installers.NotRunningError
	if _, err := install(); !errors.As(err, &stopped) {
		t.Errorf("a stopped container: %v", err)
	}
	f.containers = nil
	if err := examine(); err == nil || strings.Count(err.Error(), "does not have") != 2 {
		t.Errorf("without containers: %v", err)
	}
	c.Container.Socket = filepath.Join(c.Dir, "none")
	if p, err := New(c, target); err != nil || p.Examine(t.Context()) == nil {
		t.Errorf("without an engine: %v", err)
	}
	c.Container.Socket = socket
	if p, err := New(Config{Dir: filepath.Join(c.Dir, "missing")}, target); err != nil || !errors.Is(p.Examine(t.Context()), os.ErrNotExist) {
		t.Errorf("without the directory: %v", err)
	}
	if _, err := install(); err == nil || !strings.Contains(err.Error(), "does not have a container with the label service=web") {
		t.Errorf("without a container: %v", err)
	}
}
