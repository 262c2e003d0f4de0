package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/store"
)

// TestRemember: the log of a certificate is bounded, and a failure that repeats is one entry until its target did something
// else, whatever other targets do in between.
func TestRemember(t *testing.T) {
	var st store.State
	at := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for n := range 5 {
		for _, target := range []string{"a", "b"} {
			st.Remember(store.LogEntry{At: at.Add(time.Duration(n) * time.Hour), Event: "install_failed", Target: target, Code: advice.NotServed, Detail: fmt.Sprint("try ", n)})
		}
	}
	if len(st.Log) != 2 || st.Log[0].Times != 5 || !st.Log[0].At.Equal(at) || !st.Log[0].Last.Equal(at.Add(4*time.Hour)) || st.Log[1].Detail != "try 4" {
		t.Errorf("log %+v", st.Log)
	}
	st.Remember(store.LogEntry{At: at, Event: "installed", Target: "a"})
	st.Remember(store.LogEntry{At: at, Event: "install_failed", Target: "a", Code: advice.NotServed})
	if len(st.Log) != 4 {
		t.Errorf("a failure after a success is not one of its own: %+v", st.Log)
	}
	for n := range 200 {
		st.Remember(store.LogEntry{At: at, Event: "obtained", Version: fmt.Sprint(n), Detail: strings.Repeat("x", 10_000)})
	}
	if n := len(st.Log); n != 60 || st.Log[n-1].Version != "199" || len(st.Log[n-1].Detail) > 600 {
		t.Errorf("%d entries, the last %+v", n, st.Log[n-1])
	}
}
