package clock

import (
	"testing"
	"time"
)

func TestBelievable(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after, ahead time.Duration
		want         bool
	}{
		{-100 * 365 * 24 * time.Hour, 0, true}, {0, 0, true}, {Slack, 0, true}, {Slack + 1, 0, false},
		{LongestPause + Slack, LongestPause, true}, {LongestPause + Slack + 1, LongestPause, false}, {365 * 24 * time.Hour, LongestPause, false},
	} {
		if got := Believable(now, now.Add(c.after), c.ahead); got != c.want {
			t.Errorf("%s ahead, at most %s: %v", c.after, c.ahead, got)
		}
	}
	if !Believable(now, time.Time{}, 0) {
		t.Error("the zero time is believable: it says nothing")
	}
}

func TestOrder(t *testing.T) {
	a := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	b := a.Add(1)
	if Later(a, b) != b || Later(b, a) != b || Earlier(a, b) != a || Earlier(b, a) != a {
		t.Error("wrong order")
	}
	if Earlier(time.Time{}, a) != a || Earlier(a, time.Time{}) != a || !Earlier(time.Time{}, time.Time{}).IsZero() {
		t.Error("the zero time is never")
	}
}
