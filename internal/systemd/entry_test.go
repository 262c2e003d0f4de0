package systemd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
)

// TestLog: the journal gets one datagram, values of several lines with their length, and long ones cut.
func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		fields []Field
		want   string
	}{
		{[]Field{{"MESSAGE", "a = b"}, {"PRIORITY", "6"}}, "MESSAGE=a = b\nPRIORITY=6\n"},
		{[]Field{{"ERROR", "one\ntwo\nPRIORITY=0"}, {"CODE", ""}}, "ERROR\n\x12\x00\x00\x00\x00\x00\x00\x00one\ntwo\nPRIORITY=0\nCODE=\n"},
		{[]Field{{"MESSAGE", "x" + strings.Repeat("é", maxValue)}}, "MESSAGE=x" + strings.Repeat("é", maxValue/2-1) + "\n"},
	} {
		if err := Log(path, tt.fields...); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2*maxValue)
		n, err := conn.Read(buf)
		if got := string(buf[:n]); err != nil || got != tt.want {
			t.Errorf("the journal got %.100q (%d bytes), %v, want %.100q (%d)", got, n, err, tt.want, len(tt.want))
		}
	}
}

// TestLogFails: the caller is told when nobody takes the entry, and is not held up by a journal that stands still.
func TestLogFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := Log(path, Field{"MESSAGE", "a"}); err == nil {
		t.Error("nobody listens, and that is no error")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for sent := 0; Log(path, Field{"MESSAGE", "a"}) == nil; sent++ {
		if sent > 100_000 { // net.unix.max_dgram_qlen is 10 to 512
			t.Fatal("a journal that reads nothing took everything")
		}
	}
}
