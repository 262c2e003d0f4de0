package daemon

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
)

func TestStatusLine(t *testing.T) {
	at := time.Date(2026, 11, 21, 4, 0, 0, 0, time.Local)
	for attention, want := range []string{"none needs attention", "1 needs attention", "2 need attention"} {
		got := statusLine(renewal.Summary{Certificates: 7, Attention: attention, Next: at})
		if want := "7 certificates, " + want + "; next look at 2026-11-21 04:00:00"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestLogToJournal: lines have a priority and no time of their own; elsewhere it is the other way round.
func TestLogToJournal(t *testing.T) {
	for _, format := range []string{"console", "json"} {
		for _, journal := range []bool{true, false} {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			info, err := w.Stat()
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("JOURNAL_STREAM", "")
			if st := info.Sys().(*syscall.Stat_t); journal {
				t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
			}
			log, err := NewLogger(config.Log{Level: "debug", Format: format}, w)
			if err != nil {
				t.Fatal(err)
			}
			log.With(zap.Int("n", 1)).Error("a\nb")
			log.Warn("c")
			log.Info("d")
			log.Debug("e")
			_ = w.Close()
			lines := bufio.NewScanner(r)
			for _, prefix := range []string{"<3>", "<4>", "<6>", "<7>"} {
				if !lines.Scan() || strings.HasPrefix(lines.Text(), prefix) != journal || strings.Contains(lines.Text(), time.Now().Format("2006")) == journal {
					t.Errorf("%s, journal %v: %q", format, journal, lines.Text())
				}
			}
			_ = r.Close()
		}
	}
}
