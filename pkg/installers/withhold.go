package installers

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/acmed/acmed/internal/vetted"
)

// place is how servers name a line of a file: FILE:LINE, or "line LINE of FILE".
var place = regexp.MustCompile(`(/[^\s:;,"'()\[\]]+):\d|line \d+ of (/[^\s:;,"'()\[\]]+)`)

// withhold returns what a program or a log says, unless it may quote a file that another user could have replaced by a link to
// one that only root can read. Then it names the place alone.
func withhold(said string) string {
	for _, m := range place.FindAllStringSubmatch(said, -1) {
		f, err := vetted.Open(m[1]+m[2], 0)
		if err == nil {
			_ = f.Close()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Sprintf("%s; the message is not shown, because it may quote what others must not read: %v", m[0], err)
		}
	}
	return said
}
