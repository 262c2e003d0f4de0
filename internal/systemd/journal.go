package systemd

import (
	"fmt"
	"os"
	"syscall"
)

// ToJournal reports whether what is written to f goes straight to the journal (JOURNAL_STREAM in systemd.exec(5)). Then a
// line may begin with its syslog priority, as in "<4>" (sd-daemon(3)).
func ToJournal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
