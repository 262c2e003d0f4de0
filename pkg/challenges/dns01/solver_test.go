package dns01

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// memory is a provider and at the same time the DNS that serves its records.
type memory struct {
	mu       sync.Mutex
	values   map[string]map[string]bool
	presents int
	cleanups int
	fail     func(op Op, attempt int) error // before the change
	after    func(op Op, attempt int) error // after the change
	busy     map[string]bool
	overlap  bool
}

func (m *memory) Present(_ context.Context, r Record) error {
	return m.change(OpPresent, &m.presents, r, func(set map[string]bool) { set[r.Value] = true })
}

func (m *memory) CleanUp(_ context.Context, r Record) error {
	return m.change(OpCleanUp, &m.cleanups, r, func(set map[string]bool) { delete(set, r.Value) })
}

func (m *memory) change(op Op, count *int, r Record, do func(map[string]bool)) error {
	m.mu.Lock()
	*count++
	n := *count
	if m.busy[r.FQDN] {
		m.overlap = true
	}
	if m.busy == nil {
		m.busy = map[string]bool{}
	}
	m.busy[r.FQDN] = true
	m.mu.Unlock()
	time.Sleep(time.Millisecond)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy[r.FQDN] = false
	if m.fail != nil {
		if err := m.fail(op, n); err != nil {
			return err
		}
	}
	if m.values == nil {
		m.values = map[string]map[string]bool{}
	}
	if m.values[r.FQDN] == nil {
		m.values[r.FQDN] = map[string]bool{}
	}
	do(m.values[r.FQDN])
	if m.after != nil {
		return m.after(op, n)
	}
	return nil
}

func (m *memory) count(fqdn string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.values[fqdn])
}

// serve answers as the only authoritative server of example.com.
func (m *memory) serve(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg).SetReply(q)
	name, qtype := q.Question[0].Name, q.Question[0].Qtype
	add := func(format string, args ...any) {
		rr, err := dns.NewRR(fmt.Sprintf(format, args...))
		if err != nil {
			panic(err)
		}
		answer.Answer = append(answer.Answer, rr)
	}
	switch {
	case name == "example.com." && qtype == dns.TypeSOA:
		add("example.com. 1 SOA ns. h. 1 1 1 1 1")
	case name == "example.com." && qtype == dns.TypeNS:
		add("example.com. 1 NS ns.example.com.")
	case name == "ns.example.com." && qtype == dns.TypeA:
		add("ns.example.com. 1 A 127.0.0.1")
	case qtype == dns.TypeTXT:
		m.mu.Lock()
		for v := range m.values[name] {
			add("%s 1 TXT %q", name, v)
		}
		m.mu.Unlock()
	}
	_ = w.WriteMsg(answer)
}

func memorySolver(t *testing.T, m *memory, timeout time.Duration) *Solver {
	port := freePort(t)
	serveDNS(t, "127.0.0.1:"+port, m.serve)
	n := &named{addr: "127.0.0.1:" + port, port: port}
	c := n.config(t)
	c.PropagationTimeout = timeout
	s := solverFor(t, c, Options{})
	s.provider = m
	return s
}

const apexName = "_acme-challenge.example.com."

func TestProviderErrors(t *testing.T) {
	failing := errors.New("the service answers 500")
	for _, tc := range []struct {
		name          string
		fail, after   func(Op, int) error
		want          string // "": Present works
		presents      int
		left, entries int
	}{
		{name: "fine", presents: 1, left: 1, entries: 1},
		{name: "fails twice", presents: 3, left: 1, entries: 1, fail: func(op Op, n int) error {
			if op == OpPresent && n < 3 {
				return failing
			}
			return nil
		}},
		{name: "always fails", presents: 3, want: "answers 500", fail: func(op Op, _ int) error {
			if op == OpPresent {
				return failing
			}
			return nil
		}},
		{name: "refused", presents: 1, want: "answers 500", fail: func(op Op, _ int) error {
			return refused(failing)
		}},
		{name: "works and reports an error", presents: 1, want: "answers 500", after: func(op Op, _ int) error {
			if op == OpPresent {
				return final(failing)
			}
			return nil
		}},
		{name: "cannot be removed", presents: 1, want: "remove the TXT record", left: 1, entries: 1, fail: func(op Op, _ int) error {
			if op == OpCleanUp {
				return failing
			}
			return nil
		}, after: func(op Op, _ int) error { return final(failing) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &memory{fail: tc.fail, after: tc.after}
			s := memorySolver(t, m, 5*time.Second)
			err := s.Present(t.Context(), challenge(t, "example.com", "x"))
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if m.presents != tc.presents || m.count(apexName) != tc.left || len(entries(t, s.journal)) != tc.entries {
				t.Errorf("%d attempts, %d records and %d entries are left; want %d, %d, %d",
					m.presents, m.count(apexName), len(entries(t, s.journal)), tc.presents, tc.left, tc.entries)
			}
		})
	}
}

func TestCleanUpIsIdempotentAndRetried(t *testing.T) {
	m := &memory{}
	s := memorySolver(t, m, 5*time.Second)
	c := challenge(t, "example.com", "x")
	if err := s.CleanUp(t.Context(), c); err != nil || m.cleanups != 0 {
		t.Errorf("without a Present: %v, %d calls", err, m.cleanups)
	}
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	m.fail = func(Op, int) error { return errors.New("out of order") }
	if err := s.CleanUp(t.Context(), c); err == nil || !strings.Contains(err.Error(), value(c)) {
		t.Errorf("%v, want an error with the value", err)
	}
	m.fail = nil
	for range 2 {
		if err := s.CleanUp(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	if m.cleanups != 2 || m.count(apexName) != 0 || len(entries(t, s.journal)) != 0 {
		t.Errorf("%d clean-ups, %d records, journal %v", m.cleanups, m.count(apexName), entries(t, s.journal))
	}
}

func TestCancelledPresentLeavesNothing(t *testing.T) {
	m := &memory{}
	s := memorySolver(t, m, time.Minute)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the order was cancelled")
	m.after = func(op Op, _ int) error { cancel(reason); return nil }
	s.wait.port = "1" // nobody answers there
	err := s.Present(ctx, challenge(t, "example.com", "x"))
	if !errors.Is(err, reason) {
		t.Errorf("%v, want the cause", err)
	}
	if m.count(apexName) != 0 || len(entries(t, s.journal)) != 0 {
		t.Errorf("%d records, journal %v", m.count(apexName), entries(t, s.journal))
	}
}

func TestOneChangeOfANameAtATime(t *testing.T) {
	m := &memory{}
	s := memorySolver(t, m, 5*time.Second)
	var wg sync.WaitGroup
	for i := range 16 {
		c := challenge(t, "example.com", fmt.Sprint(i))
		wg.Go(func() {
			if err := errors.Join(s.Present(t.Context(), c), s.CleanUp(t.Context(), c)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if m.overlap {
		t.Error("two changes of one name overlapped")
	}
	if len(s.locks.held) != 0 || len(s.pending) != 0 || m.count(apexName) != 0 {
		t.Errorf("left: %d locks, %d pending, %d records", len(s.locks.held), len(s.pending), m.count(apexName))
	}
}

func TestJournalFailureStopsBeforeTheProvider(t *testing.T) {
	m := &memory{}
	s := memorySolver(t, m, time.Second)
	s.journal = NewJournal(filepath.Join(t.TempDir(), "no", "such", "directory"))
	if err := s.Present(t.Context(), challenge(t, "example.com", "x")); err == nil || m.presents != 0 {
		t.Errorf("%v, %d calls of the provider", err, m.presents)
	}
}

func TestRecover(t *testing.T) {
	unknown := errors.New("unknown record ID")
	for _, tc := range []struct {
		name    string
		fail    func(Op, int) error
		remains bool // in the DNS, as when another process set it
		want    string
		entries int
	}{
		{name: "removed", remains: true},
		{name: "gone already", fail: func(Op, int) error { return unknown }},
		{name: "only its maker can remove it", fail: func(Op, int) error { return unknown }, remains: true, want: "remove it by hand", entries: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &memory{fail: tc.fail}
			s := memorySolver(t, m, 200*time.Millisecond)
			r := recordOf(challenge(t, "example.com", "old"))
			if tc.remains {
				m.values = map[string]map[string]bool{apexName: {r.Value: true}}
			}
			other := recordOf(challenge(t, "other.example.com", "foreign"))
			for _, e := range []Entry{{Solver: "test", Created: s.now(), Record: r}, {Solver: "another", Created: s.now(), Record: other}} {
				if err := s.journal.add(e); err != nil {
					t.Fatal(err)
				}
			}
			err := s.Recover(t.Context())
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if got := len(entries(t, s.journal)) - 1; got != tc.entries {
				t.Errorf("%d entries are left, want %d and that of the other solver", got, tc.entries)
			}
		})
	}
}

func TestRecoverLeavesRecordsInUse(t *testing.T) {
	m := &memory{}
	s := memorySolver(t, m, 5*time.Second)
	if err := s.Present(t.Context(), challenge(t, "example.com", "x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	if m.count(apexName) != 1 || m.cleanups != 0 {
		t.Errorf("%d records, %d clean-ups", m.count(apexName), m.cleanups)
	}
}

func TestJournalWithDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dns")
	j := NewJournal(dir)
	good := Entry{Solver: "s", Created: time.Unix(1e9, 0).UTC(), Record: Record{Domain: "example.com", KeyAuth: "a.b"}}
	if err := j.add(good); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"half.json": `{"version":1,`, "newer.json": `{"version":2}`, "moved.json": `{"version":1,"solver":"s"}`,
		"large.json": strings.Repeat(" ", maxEntryBytes+1), "notes.txt": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := NewJournal(dir).Entries()
	if len(list) != 1 || list[0].Domain != "example.com" || !list[0].Created.Equal(good.Created) {
		t.Errorf("entries %v", list)
	}
	for _, want := range []string{"half.json", "version 2 is not known", "moved.json", "too large"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestLocksWaitAndGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Locks
		k := lockKey{"credential", "name."}
		release, err := l.acquire(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.acquire(ctx, k); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
		if other, err := l.acquire(t.Context(), lockKey{"other", "name."}); err != nil {
			t.Error(err)
		} else {
			other()
		}
		release()
		if len(l.held) != 0 {
			t.Errorf("%d locks are left", len(l.held))
		}
	})
}
