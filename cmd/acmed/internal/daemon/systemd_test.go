package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
)

func TestStatusLine(t *testing.T) {
	at := time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)
	for attention, want := range []string{"none needs attention", "1 needs attention", "2 need attention"} {
		got := statusLine(renewal.Summary{Certificates: 7, Attention: attention, Next: at})
		if want := "7 certificates, " + want + "; next look at 2026-11-21 04:00 UTC"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestLogToJournal: without the journal's socket, lines have a priority and no time of their own; elsewhere it is the other way round.
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
			log, err := newLogger(config.Log{Level: "debug", Format: format}, w, "/nonexistent")
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

// TestLogWithFields: each entry is one datagram with a line that can be read alone and the fields that people look for;
// nothing goes to standard error then.
func TestLogWithFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	journal, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	if err := journal.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	log, err := newLogger(config.Log{Level: "info", Format: "console"}, w, path)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("too little")
	log.With(zap.String("certificate", "www")).Info("certificate event", zap.String("event", "obtained"), zap.Int("n", 1), zap.Error(nil))
	log.Error("a\nPRIORITY=0", zap.String("code", "x\x1b[31m"), zap.Error(errors.New("one\ntwo")))
	for _, want := range []string{
		"MESSAGE=INFO\tcertificate event\t{\"certificate\": \"www\", \"event\": \"obtained\", \"n\": 1}\nPRIORITY=6\nSYSLOG_IDENTIFIER=acmed\nCERTIFICATE=www\nEVENT=obtained\n",
		"MESSAGE=ERROR\ta\\nPRIORITY=0\t{\"code\": \"x\\u001b[31m\", \"error\": \"one\\ntwo\"}\nPRIORITY=3\nSYSLOG_IDENTIFIER=acmed\nCODE=x\\u001b[31m\nERROR\n\x07\x00\x00\x00\x00\x00\x00\x00one\ntwo\n",
	} {
		buf := make([]byte, 10000)
		n, err := journal.Read(buf)
		if got := string(buf[:n]); err != nil || got != want {
			t.Errorf("the journal got\n%q, %v, want\n%q", got, err, want)
		}
	}
	if text, err := os.ReadFile(w.Name()); err != nil || len(text) != 0 {
		t.Errorf("on standard error: %q, %v", text, err)
	}
}
