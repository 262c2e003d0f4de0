package notify_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/notify"
)

func TestParseSchedule(t *testing.T) {
	for _, tt := range []struct {
		every, at string
		ok        bool
	}{
		{"", "", true}, {"daily", "", true}, {"daily", "23:59", true}, {"weekly", "sun 07:30", true}, {"weekly", "07:30", true},
		{"", "08:00", false}, {"hourly", "", false}, {"daily", "24:00", false}, {"daily", "mon 08:00", false}, {"weekly", "someday 08:00", false},
	} {
		if _, err := notify.ParseSchedule(tt.every, tt.at); (err == nil) != tt.ok {
			t.Errorf("%q %q: %v", tt.every, tt.at, err)
		}
	}
}

func schedule(t *testing.T, every, at string) notify.Schedule {
	t.Helper()
	s, err := notify.ParseSchedule(every, at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDigest: it comes at its time, lists what fails first, and says so when all is well.
func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		states := []notify.State{
			{Certificate: "b", State: "ok", NotAfter: now.Add(40 * 24 * time.Hour)},
			{Certificate: "a", State: "ok", NotAfter: now.Add(60 * 24 * time.Hour)},
		}
		bad := notify.State{Certificate: "z", State: "failing", Attention: true, NotAfter: now.Add(90 * 24 * time.Hour), Error: "e"}
		var daily, weekly, never listener
		file := filepath.Join(t.TempDir(), "notify.json")
		channels := []notify.Channel{
			{Name: "daily", On: []notify.Kind{notify.Held}, Digest: schedule(t, "daily", "06:30"), Sender: &daily},
			{Name: "weekly", Digest: schedule(t, "weekly", "fri 09:00"), Sender: &weekly}, {Name: "never", Sender: &never},
		}
		conf := notify.HubConfig{File: file, Summary: func(context.Context) []notify.State { return states }}
		h := newHub(t, conf, channels...)
		time.Sleep(15 * 24 * time.Hour)
		synctest.Wait()
		if n := len(daily.got); n != 15 && n != 14 {
			t.Errorf("%d daily digests in 15 days", n)
		}
		if n := len(weekly.got); n != 2 {
			t.Errorf("%d weekly digests in 15 days", n)
		}
		for name, l := range map[string]*listener{"06:30": &daily, "Fri 09:00": &weekly} {
			e := l.got[len(l.got)-1][0]
			if at := e.Time.Format("Mon 15:04"); !strings.HasSuffix(at, name) || e.Message != "all is well with 2 certificates" || e.Summary[0].Certificate != "b" {
				t.Errorf("at %s: %+v", at, e)
			}
		}
		closed(h)

		daily.got, weekly.got = nil, nil
		states = append(states, bad)
		time.Sleep(30 * time.Hour) // the machine was off
		h = newHub(t, conf, channels...)
		synctest.Wait()
		if len(daily.got) != 1 || daily.got[0][0].Summary[0].Certificate != "z" || daily.got[0][0].Message != "1 of 3 certificates need attention" {
			t.Errorf("after the restart: %+v", daily.got)
		}
		if got := never.heard(); got != "" {
			t.Error(got)
		}
		closed(h)
	})
}
