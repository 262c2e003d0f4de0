package nginx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// many are several certificates on one nginx, each for a site of its own.
type many struct {
	*instance
	installers []*Installer
	lineages   []*lineage
	bundles    []*certs.Bundle
}

// startMany runs an nginx whose sites are in one file, or in a file for each. Its test counts, and refuses what {run}/refuse
// has a pattern for, in the words of {run}/words.
func startMany(t *testing.T, count int, oneFile bool, adjust func(i int, cfg *Config)) *many {
	t.Helper()
	files := map[string]string{}
	for i := range count {
		name := fmt.Sprintf("sites/s%d.conf", i)
		if oneFile {
			name = "sites/all.conf"
		}
		files[name] += site(fmt.Sprintf("s%d.example", i), "hello")
	}
	m := &many{instance: start(t, files)}
	script := m.expand(`#!/bin/sh
echo test >> {run}/tests
if [ -e {run}/refuse ] && grep -Erq -f {run}/refuse {conf}; then cat {run}/words >&2; exit 1; fi
exec {nginx} -t -q -p {run} -c {conf}/nginx.conf
`)
	if err := os.WriteFile(filepath.Join(m.run, "counting.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var server *installers.Server
	for i := range count {
		cfg := m.config()
		cfg.Test = []string{filepath.Join(m.run, "counting.sh")}
		if adjust != nil {
			adjust(i, &cfg)
		}
		if server == nil {
			server = NewServer(cfg)
		}
		l := newLineage(t, fmt.Sprintf("s%d.example", i))
		l.Certificate, l.Server = fmt.Sprintf("s%d", i), server
		m.installers, m.lineages = append(m.installers, m.installer(cfg, l)), append(m.lineages, l)
	}
	m.renew()
	return m
}

// renew publishes new certificates.
func (m *many) renew() {
	m.bundles = nil
	for i, l := range m.lineages {
		b := installertest.Bundle(m.t, fmt.Sprintf("s%d.example", i))
		l.publish(b)
		m.bundles = append(m.bundles, b)
	}
}

// install installs all at once.
func (m *many) install() []error {
	errs := make([]error, len(m.installers))
	var wg sync.WaitGroup
	for i, one := range m.installers {
		wg.Go(func() { errs[i] = one.Install(m.t.Context(), m.bundles[i]) })
	}
	wg.Wait()
	return errs
}

// counts are the tests and reloads since the last call.
func (m *many) counts() (tests, reloads int) {
	m.t.Helper()
	text, _ := os.ReadFile(filepath.Join(m.run, "tests"))
	tests, reloads = strings.Count(string(text), "\n"), m.reloads()
	for _, name := range []string{"tests", "reloads"} {
		_ = os.Remove(filepath.Join(m.run, name))
	}
	return tests, reloads
}

func (m *many) wantServed(except ...int) {
	m.t.Helper()
	for i, one := range m.installers {
		err := one.Verify(m.t.Context(), m.bundles[i])
		if fails := contains(except, i); (err != nil) != fails {
			m.t.Errorf("s%d: Verify = %v", i, err)
		}
	}
}

func contains(list []int, v int) bool {
	for _, one := range list {
		if one == v {
			return true
		}
	}
	return false
}

// TestRound installs 24 certificates at once, renews and uninstalls them: a handful of tests and reloads for all.
func TestRound(t *testing.T) {
	for _, oneFile := range []bool{false, true} {
		t.Run(fmt.Sprintf("one file %v", oneFile), func(t *testing.T) {
			m := startMany(t, 24, oneFile, nil)
			before := snapshotOf(t, m.conf)
			if err := errors.Join(m.install()...); err != nil {
				t.Fatal(err)
			}
			tests, reloads := m.counts()
			if reloads > 5 || tests > 2*reloads {
				t.Errorf("%d tests and %d reloads for 24 installations", tests, reloads)
			}
			m.wantServed()
			m.renew()
			edited := snapshotOf(t, m.conf)
			if err := errors.Join(m.install()...); err != nil {
				t.Fatal(err)
			}
			if tests, reloads := m.counts(); reloads > 5 || tests != reloads {
				t.Errorf("%d tests and %d reloads for 24 renewals", tests, reloads)
			}
			m.wantServed()
			if got := snapshotOf(t, m.conf); got != edited {
				t.Error("a renewal edited a file")
			}
			for _, one := range m.installers {
				if err := one.Uninstall(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := snapshotOf(t, m.conf); got != before {
				t.Error("the configuration is not what it was")
			}
		})
	}
}

// snapshotOf is the content of all files below a directory.
func snapshotOf(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %v\n%s\n", path, info.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestRoundFindsTheGuilty has one certificate among 20 whose edit nginx refuses, whose proof fails, or which cannot be
// planned. It alone fails, and nothing of it stays.
func TestRoundFindsTheGuilty(t *testing.T) {
	const guilty = 13
	refuse := func(words string) func(m *many) {
		return func(m *many) {
			for name, text := range map[string]string{"refuse": "acmed: s13$", "words": m.expand(words)} {
				if err := os.WriteFile(filepath.Join(m.run, name), []byte(text+"\n"), 0o644); err != nil {
					m.t.Fatal(err)
				}
			}
		}
	}
	unprovable := func(i int, cfg *Config) {
		if i == guilty {
			cfg.Verify, cfg.VerifyTimeout = []string{"127.0.0.1:1/s13.example"}, time.Second
		}
	}
	for _, tt := range []struct {
		name    string
		oneFile bool
		adjust  func(int, *Config)
		prepare func(*many)
		want    string
		reloads int
	}{
		{"refused by name", false, nil, refuse(`nginx: [emerg] no luck in {conf}/sites/s13.conf:3`), "no luck", 6},
		{"refused without a name", false, nil, refuse(`nginx: [emerg] no luck`), "no luck", 12},
		{"refused in a file of all", true, nil, refuse(`nginx: [emerg] no luck in {conf}/sites/all.conf:3`), "no luck", 12},
		{"not served", false, unprovable, nil, "127.0.0.1:1", 6},
		{"not served, in a file of all", true, unprovable, nil, "127.0.0.1:1", 7},
		{"no such site", false, nil, func(m *many) { m.write("sites/s13.conf", "# gone\n") }, "no nginx server block", 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := startMany(t, 20, tt.oneFile, tt.adjust)
			if tt.prepare != nil {
				tt.prepare(m)
			}
			for i, err := range m.install() {
				if fails := i == guilty; (err != nil) != fails || fails && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("s%d: %v", i, err)
				}
			}
			if _, reloads := m.counts(); reloads > tt.reloads {
				t.Errorf("%d reloads", reloads)
			}
			if strings.Contains(snapshotOf(t, m.conf), "acmed: s13\n") {
				t.Error("lines of the one that failed stayed")
			}
			m.wantServed(guilty)
		})
	}
}
