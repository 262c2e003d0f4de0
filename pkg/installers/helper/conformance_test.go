package helper

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/installers/installertest"
	"github.com/acmed/acmed/pkg/store"
)

// takeOver is the reload of a server that serves copies of its files: it fails when $0/broken is there, takes nothing
// over when $0/hung is, and notes that it ran.
const takeOver = `if test -e "$0/broken"; then echo "cannot reload" >&2; exit 1; fi
test -e "$0/hung" || test ! -e "$1/fullchain.pem" || cp "$1/fullchain.pem" "$1/privkey.pem" "$0"
echo reload >>"$0/reloads"`

// TestConformance runs the suite of the installers through the socket: a target behind the helper keeps the same promises.
func TestConformance(t *testing.T) {
	installertest.Run(t, func(t *testing.T) installertest.Fixture {
		control, root := t.TempDir(), t.TempDir()
		usual, err := installertest.KeyPairs(installertest.Bundle(t, "default.example"))
		if err != nil {
			t.Fatal(err)
		}
		server := installertest.Serve(t, func() ([]tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(filepath.Join(control, "fullchain.pem"), filepath.Join(control, "privkey.pem"))
			if errors.Is(err, fs.ErrNotExist) {
				return usual, nil
			}
			return []tls.Certificate{pair}, err
		})
		h := start(t, func(c *ServerConfig) { replaceTarget(t, c, control, root, server.Addr) })
		note := func(name string) func(bool) {
			return func(broken bool) {
				path := filepath.Join(control, name)
				err := os.Remove(path)
				if broken {
					err = os.WriteFile(path, nil, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		return installertest.Fixture{
			Installer: h.client("www"), Names: []string{"a.example"}, Root: root, State: h.store.Dir(), Comment: "# renewed by hand",
			Break: map[installertest.Step]func(bool){installertest.Reload: note("broken"), installertest.Probe: note("hung")},
			Reloads: func() int {
				text, err := os.ReadFile(filepath.Join(control, "reloads"))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
				return bytes.Count(text, []byte("\n"))
			},
		}
	})
}

// replaceTarget puts a real target of files in the place of www.
func replaceTarget(t *testing.T, c *ServerConfig, control, root, addr string) {
	t.Helper()
	old := c.Targets["www"]
	live := store.PathsIn(old.store.Dir(), "www")
	to, err := file.New(file.Config{
		Dir: root, Reload: []string{"/bin/sh", "-c", takeOver, control, root}, Verify: []string{addr}, VerifyWait: 200 * time.Millisecond,
	}, installers.Target{
		Certificate: "www", Names: []certs.Identifier{{Type: certs.DNS, Value: "a.example"}},
		Cert: live.Cert, Chain: live.Chain, FullChain: live.FullChain, Key: live.Key, Journal: filepath.Join(old.store.Dir(), "journals", "www"),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Targets["www"] = NewTarget("www", old.names, to, old.store, time.Now)
}
