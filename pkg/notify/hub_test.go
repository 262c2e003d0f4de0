package notify_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/notify"
)

// listener keeps what it is sent, or fails.
type listener struct {
	mu   sync.Mutex
	err  error
	hang bool
	got  [][]notify.Event
}

func (l *listener) Send(ctx context.Context, events []notify.Event) error {
	l.mu.Lock()
	hang, err := l.hang, l.err
	if err == nil && !hang {
		l.got = append(l.got, slices.Clone(events))
	}
	l.mu.Unlock()
	if hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return err
}

func (l *listener) set(err error, hang bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.hang = err, hang
}

// heard lists what arrived since the last call, as "kind" or "kind target".
func (l *listener) heard() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	var words []string
	for _, batch := range l.got {
		for _, e := range batch {
			words = append(words, strings.TrimSpace(string(e.Kind)+" "+e.Target))
		}
	}
	l.got = nil
	return strings.Join(words, ", ")
}

type counter struct {
	mu sync.Mutex
	n  map[notify.Outcome]int
}

func (c *counter) count(_ string, o notify.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[notify.Outcome]int{}
	}
	c.n[o]++
}

func (c *counter) of(o notify.Outcome) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[o]
}

func newHub(t *testing.T, conf notify.HubConfig, channels ...notify.Channel) *notify.Hub {
	t.Helper()
	h := notify.NewHub(conf)
	h.Swap(channels)
	h.Start()
	return h
}

// closed ends a hub at once.
func closed(h *notify.Hub) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.Close(ctx)
}

func tell(t *testing.T, h *notify.Hub, kind notify.Kind, target, why string) {
	t.Helper()
	if err := h.Notify(t.Context(), notify.Event{Kind: kind, Certificate: "www", Target: target, Error: why, Message: "m"}); err != nil {
		t.Error(err)
	}
}

// TestToldOnce: a failure is told once and again a day later, whatever numbers are in its text; its end is told once.
func TestToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l, quiet listener
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "l", Sender: &l}, notify.Channel{Name: "quiet", On: []notify.Kind{notify.Recovered}, Sender: &quiet})
		defer closed(h)
		for i := range 20 { // every hour
			tell(t, h, notify.Failed, "", "dial tcp 192.0.2.1:443: order/aBc"+string(rune('0'+i%10))+": refused")
			time.Sleep(time.Hour)
		}
		if got := l.heard(); got != "failed" {
			t.Errorf("in a day: %s", got)
		}
		tell(t, h, notify.Failed, "", "something else")
		time.Sleep(5 * time.Hour)
		tell(t, h, notify.Failed, "", "dial tcp 192.0.2.1:443: order/x1: refused")
		if got := l.heard(); got != "failed, failed" {
			t.Errorf("another error, and the first a day later: %s", got)
		}
		tell(t, h, notify.Recovered, "", "")
		tell(t, h, notify.Recovered, "", "")
		if got := l.heard(); got != "recovered" {
			t.Errorf("the end: %s", got)
		}
		tell(t, h, notify.Failed, "", "something else")
		if got := l.heard(); got != "failed" {
			t.Errorf("after a recovery a failure is news: %s", got)
		}
		if got := quiet.heard(); got != "" {
			t.Errorf("who never heard of the failure heard %s", got)
		}
	})
}

// TestCodes: failures with one code are one failure, whatever their texts.
func TestCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listener
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "l", Sender: &l})
		defer closed(h)
		for _, e := range []notify.Event{
			{Code: advice.DiskFull, Error: "one"}, {Code: advice.DiskFull, Error: "two"}, {Code: advice.PortTaken, Error: "two"},
		} {
			e.Kind, e.Certificate = notify.Failed, "www"
			if err := h.Notify(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
		if got := l.heard(); got != "failed, failed" {
			t.Error(got)
		}
	})
}

// TestManyErrors: of something that fails with another error each time, a handful are told in a day.
func TestManyErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listener
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "l", Sender: &l})
		defer closed(h)
		for i := range 26 {
			tell(t, h, notify.Failed, "", "reason "+string(rune('a'+i)))
		}
		if n := strings.Count(l.heard(), "failed"); n != 5 {
			t.Errorf("told %d times, want 5", n)
		}
	})
}

// TestTargets: what fails at one target, or in the hook, is neither mended nor hidden by anything else.
func TestTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listener
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "l", Sender: &l})
		defer closed(h)
		tell(t, h, notify.InstallFailed, "nginx", "e")
		tell(t, h, notify.InstallFailed, "file", "e")
		tell(t, h, notify.Obtained, "", "")
		mended := notify.Event{Kind: notify.Recovered, Recovers: notify.InstallFailed, Certificate: "www", Target: "file"}
		for range 2 {
			if err := h.Notify(t.Context(), mended); err != nil {
				t.Error(err)
			}
		}
		tell(t, h, notify.InstallFailed, "nginx", "e")
		if got := l.heard(); got != "install_failed nginx, install_failed file, recovered file" {
			t.Error(got)
		}
	})
}

// TestExpiring: who was only told that the end is near is told of the renewal too; those events always pass.
func TestExpiring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l, all listener
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "l", On: []notify.Kind{notify.Expiring, notify.Recovered}, Sender: &l},
			notify.Channel{Name: "all", On: notify.Kinds(), Sender: &all})
		defer closed(h)
		tell(t, h, notify.Expiring, "", "e")
		tell(t, h, notify.Expiring, "", "e")
		tell(t, h, notify.Obtained, "", "")
		tell(t, h, notify.Obtained, "", "")
		if got := l.heard(); got != "expiring, expiring, recovered" {
			t.Error(got)
		}
		if got := all.heard(); got != "expiring, expiring, recovered, obtained" {
			t.Error(got)
		}
	})
}

// TestAdopted: a version of another node ends a failure that was told, and is told itself only to those who want it.
func TestAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var usual, all listener
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "usual", Sender: &usual}, notify.Channel{Name: "all", On: notify.Kinds(), Sender: &all})
		defer closed(h)
		tell(t, h, notify.Adopted, "", "")
		tell(t, h, notify.Failed, "", "e")
		tell(t, h, notify.Adopted, "", "")
		if got := usual.heard(); got != "failed, recovered" {
			t.Error(got)
		}
		if got := all.heard(); got != "adopted, failed, recovered" {
			t.Error(got)
		}
	})
}

// TestRestart: what was told and what waits survives a restart.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "notify.json")
		var l listener
		l.set(errors.New("down"), false)
		h := newHub(t, notify.HubConfig{File: file}, notify.Channel{Name: "l", Sender: &l})
		tell(t, h, notify.Failed, "", "e")
		tell(t, h, notify.Held, "", "e")
		time.Sleep(time.Minute)
		closed(h)
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatal(info, err)
		}
		l.set(nil, false)
		h = newHub(t, notify.HubConfig{File: file}, notify.Channel{Name: "l", Sender: &l})
		tell(t, h, notify.Failed, "", "e")
		if got := l.heard(); got != "failed, held" {
			t.Errorf("after the restart: %s", got)
		}
		closed(h)
		h = newHub(t, notify.HubConfig{File: file}, notify.Channel{Name: "l", Sender: &l})
		tell(t, h, notify.Recovered, "", "e")
		if got := l.heard(); got != "recovered" {
			t.Errorf("after the second: %s", got)
		}
		closed(h)
	})
}

// TestStateOfAnother: a damaged file is begun anew, one of a later release is left as it is.
func TestStateOfAnother(t *testing.T) {
	for text, kept := range map[string]bool{"{": false, `{"version":2}`: true} {
		file := filepath.Join(t.TempDir(), "notify.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			var l listener
			h := newHub(t, notify.HubConfig{File: file}, notify.Channel{Name: "l", Sender: &l})
			tell(t, h, notify.Failed, "", "e")
			if got := l.heard(); got != "failed" {
				t.Error(got)
			}
			closed(h)
		})
		if now, err := os.ReadFile(file); err != nil || (string(now) == text) != kept {
			t.Errorf("%s became %s, %v", text, now, err)
		}
	}
}

// TestNeverWaits: with a notifier that hangs and a full queue, Notify returns at once; what is too much is counted, and
// not believed to have been told.
func TestNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l, other listener
		var c counter
		l.set(nil, true)
		h := newHub(t, notify.HubConfig{Count: c.count}, notify.Channel{Name: "l", Batch: 100, Sender: &l}, notify.Channel{Name: "other", Sender: &other})
		begun := time.Now()
		for range 1100 {
			tell(t, h, notify.Held, "", "e")
		}
		tell(t, h, notify.Failed, "", "e")
		if took := time.Since(begun); took > 0 {
			t.Errorf("it took %s", took)
		}
		if got := strings.Count(other.heard(), "held"); got < 1000 { // its own queue may fill up as well, while it is being emptied
			t.Errorf("the other one heard %d", got)
		}
		if n := c.of(notify.GivenUp); n < 101 {
			t.Errorf("%d dropped", n)
		}
		l.set(nil, false)
		time.Sleep(10 * time.Minute)
		if got := strings.Count(l.heard(), "held"); got != 1000 {
			t.Errorf("%d delivered", got)
		}
		tell(t, h, notify.Failed, "", "e")
		time.Sleep(time.Minute)
		if got := l.heard(); got != "failed" {
			t.Errorf("what was dropped is told the next time: %q", got)
		}
		l.set(nil, true)
		tell(t, h, notify.Held, "", "e")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun = time.Now()
		h.Close(ctx)
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("the drain took %s", took)
		}
		tell(t, h, notify.Held, "", "e") // after the end: nothing happens
	})
}

// TestBatches: people get few messages in a bad hour.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listener
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "l", Batch: 100, Sender: &l})
		defer closed(h)
		for range 300 {
			tell(t, h, notify.Held, "", "e")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.got); n < 3 || n > 5 {
			t.Errorf("%d messages in half a minute", n)
		}
	})
}

// TestRetries: a notifier that is down gets everything when it is back; what it refuses is given up soon and holds up
// nothing; what nobody wants is given up after a day.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listener
		var c counter
		h := newHub(t, notify.HubConfig{Count: c.count}, notify.Channel{Name: "l", Sender: &l})
		defer closed(h)
		l.set(errors.New("down"), false)
		tell(t, h, notify.Failed, "", "e")
		time.Sleep(2 * time.Hour)
		l.set(nil, false)
		time.Sleep(time.Hour)
		if got := l.heard(); got != "failed" || c.of(notify.Sent) != 1 || c.of(notify.Failure) < 5 || c.of(notify.Failure) > 8 {
			t.Errorf("%s, %v", got, c.n)
		}
		l.set(&notify.RejectedError{Err: errors.New("400")}, false)
		tell(t, h, notify.Held, "", "e")
		time.Sleep(time.Minute)
		l.set(nil, false)
		tell(t, h, notify.Activated, "", "e")
		if got := l.heard(); got != "activated" || c.of(notify.GivenUp) != 1 {
			t.Errorf("after what was refused: %s, %v", got, c.n)
		}
		l.set(errors.New("down"), false)
		tell(t, h, notify.Held, "", "e")
		time.Sleep(26 * time.Hour)
		l.set(nil, false)
		time.Sleep(2 * time.Hour)
		if got := l.heard(); got != "" || c.of(notify.GivenUp) != 2 {
			t.Errorf("after a day: %s, %v", got, c.n)
		}
	})
}

// TestSwap: a reload keeps what waits for those who stay.
func TestSwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var old, next, gone listener
		old.set(errors.New("down"), false)
		gone.set(errors.New("down"), false)
		h := newHub(t, notify.HubConfig{}, notify.Channel{Name: "l", Sender: &old}, notify.Channel{Name: "gone", Sender: &gone})
		defer closed(h)
		tell(t, h, notify.Failed, "", "e")
		synctest.Wait()
		h.Swap([]notify.Channel{{Name: "l", Sender: &next}})
		gone.set(nil, false)
		time.Sleep(time.Minute)
		tell(t, h, notify.Failed, "", "e")
		if got := next.heard(); got != "failed" {
			t.Errorf("the new one: %s", got)
		}
		if got := gone.heard(); got != "" {
			t.Errorf("the one that is gone: %s", got)
		}
	})
}

// TestPanic: a library that panics is an error.
func TestPanic(t *testing.T) {
	h := notify.NewHub(notify.HubConfig{})
	h.Swap([]notify.Channel{{Name: "l", Sender: panics{}}})
	results, err := h.Test(t.Context())
	if err != nil || len(results) != 1 || results[0].Err == nil {
		t.Error(results, err)
	}
	if _, err := h.Test(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), `no notifier is called "x"; configured are: l`) {
		t.Error(err)
	}
}

type panics struct{}

func (panics) Send(context.Context, []notify.Event) error { panic("secret") }
