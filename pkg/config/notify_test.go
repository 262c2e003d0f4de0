package config_test

import (
	"testing"

	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/notify"
)

// TestDigestOfChannel: when a digest comes is handed to those who send it.
func TestDigestOfChannel(t *testing.T) {
	for _, tt := range []struct{ every, at string }{{"", ""}, {"daily", ""}, {"daily", "23:59"}, {"weekly", "fri 09:00"}} {
		n := config.Notifier{Name: "program", Digest: tt.every, At: tt.at, Command: &notify.CommandConfig{Run: []string{"/bin/true"}}}
		c, err := n.Channel(&config.Config{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := notify.ParseSchedule(tt.every, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if c.Digest != want || c.Digest.IsZero() != (tt.every == "") {
			t.Errorf("%q %q: %+v, want %+v", tt.every, tt.at, c.Digest, want)
		}
	}
}
