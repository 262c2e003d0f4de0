package file

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/fileset"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestContainer asks an engine that answers as the Docker Engine API documents "Kill a container": 204, 404 without the
// container, 409 when it does not run.
func TestContainer(t *testing.T) {
	dir, err := os.MkdirTemp("", "eng")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	status, asked := http.StatusNoContent, ""
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		w.WriteHeader(status)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })

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
	if err := p.Install(t.Context(), installertest.Bundle(t, "a.example")); err == nil || !strings.Contains(err.Error(), "no container web") {
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
	} {
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), "container") {
			t.Errorf("%+v: %v", bad.Container, err)
		}
	}
}
