package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/config"
)

// TestReloadSchedule: a reload changes the times of the sweeps, and says which settings need a restart.
func TestReloadSchedule(t *testing.T) {
	m := newMachine(t, freeAddress(t))
	sweeps := func() time.Time {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.scheduler == nil {
			return time.Time{}
		}
		return m.scheduler.Summary().Next
	}
	await.True(t, "a sweep is planned", func() bool { return !sweeps().IsZero() })
	m.configure("renewal: { schedule: \"* * * * *\", splay: 0s }")
	if err := m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	await.NoError(t, func() error {
		next := sweeps()
		if wait := time.Until(next); wait <= 0 || wait > time.Minute || !next.Equal(next.Truncate(time.Minute)) {
			return fmt.Errorf("the next sweep is at %s", next)
		}
		return nil
	})
	for more, key := range map[string]string{"log: { level: debug }": "log.level", "log: { format: json }": "log.format"} {
		m.configure(more)
		var answer *control.Error
		if err := m.Reload(t.Context()); !errors.As(err, &answer) || answer.Code != control.CodeConfig || !strings.Contains(answer.Message, key+" cannot change") {
			t.Errorf("%s: %v", more, err)
		}
	}
}

// TestSpreadBackwards: what a client asks for is checked by the daemon, too.
func TestSpreadBackwards(t *testing.T) {
	m := newMachine(t, freeAddress(t))
	var answer *control.Error
	_, err := m.Renew(t.Context(), control.RenewRequest{Force: true, Spread: -time.Hour}, func(control.Progress) {})
	if !errors.As(err, &answer) || answer.Code != control.CodeUsage || !strings.Contains(answer.Message, "above zero") {
		t.Errorf("got %v", err)
	}
}

// inUse is all that a reload replaces.
func (m *machine) inUse() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	www, _ := m.engine.Certificate("www")
	_, more := m.engine.Certificate("more")
	issuers := ""
	for _, name := range slices.Sorted(maps.Keys(m.builder.issuers)) {
		issuers += fmt.Sprintf(" %s %p", name, m.builder.issuers[name].Issuer)
	}
	told, _ := m.hub.Test(m.t.Context(), "room")
	return fmt.Sprint(www.Spec.Names(), more, issuers, slices.Sorted(maps.Keys(m.builder.rungs)), len(m.builder.retired), len(told), m.site.conf, m.site.server != nil, m.config.Renewal.Schedule)
}

// TestFailedReloadChangesNothing: whichever step fails, all that was in use stays, and the next reload puts all in use.
func TestFailedReloadChangesNothing(t *testing.T) {
	page := freeAddress(t)
	m := newMachine(t, page)
	m.until(page, "www")
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	next := func(listen string) string {
		return "  - { name: more, names: [more.example.com] }\nrenewal: { schedule: \"7 * * * *\" }\nweb: { listen: \"" + listen + "\", hosts: [status.example.com] }\n" +
			"notify:\n  - { name: room, command: { run: [/bin/true] } }"
	}
	before := m.inUse()
	unchanged := func(what string, err error) {
		t.Helper()
		if now := m.inUse(); err == nil || now != before {
			t.Errorf("%s: %v\nbefore %s\nnow    %s", what, err, before, now)
		}
		if !strings.Contains(m.fetch(page), "www") {
			t.Errorf("%s: the status page is gone", what)
		}
	}
	m.configure(next(taken.Addr().String()))
	unchanged("an address that is taken", m.Reload(t.Context()))

	m.configure(next(page))
	c, _, err := config.Load(filepath.Join(m.dir, "acmed.yaml"), config.Lenient)
	if err != nil {
		t.Fatal(err)
	}
	c.Issuers[0].MinLifetime = time.Hour // each build makes a new one
	injected := func(context.Context, *config.Config) (prepared, error) { return prepared{}, errors.New("injected") }
	m.mu.Lock()
	steps := m.steps()
	m.mu.Unlock()
	if len(steps) != 4 {
		t.Fatalf("%d steps", len(steps))
	}
	for k := range len(steps) + 1 {
		m.mu.Lock()
		err := switchTo(t.Context(), c, slices.Insert(slices.Clone(steps), k, injected))
		m.mu.Unlock()
		unchanged(fmt.Sprintf("step %d", k), err)
	}
	for what, change := range map[string]func(*config.Certificate){
		"a target":  func(cert *config.Certificate) { cert.Install = []config.Install{{}} },
		"an issuer": func(cert *config.Certificate) { cert.Issuers = []string{"test-ca", "nobody"} },
	} {
		broken := *c
		broken.Certificates = slices.Clone(c.Certificates)
		change(&broken.Certificates[1])
		m.mu.Lock()
		err := switchTo(t.Context(), &broken, steps)
		m.mu.Unlock()
		unchanged(what, err)
	}
	if err := m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.until(page, "more")
	if now := m.inUse(); !strings.Contains(now, " 1 {") || !strings.Contains(now, "7 * * * *") || !strings.Contains(now, "status.example.com") {
		t.Errorf("after all was mended: %s", now)
	}
}
