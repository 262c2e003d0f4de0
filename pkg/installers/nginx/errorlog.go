package nginx

import (
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers"
)

// newErrorLog finds the log: the last error_log of the main context that is a file, or the one built in.
func newErrorLog(t *tree, info build) *installers.LogTail {
	path := info.errorLog
	for _, d := range slices.Backward(t.main.root) {
		if d.is("error_log") {
			path = d.words[1].value
			break
		}
	}
	if path == "stderr" || strings.Contains(path, ":") {
		return &installers.LogTail{}
	}
	return &installers.LogTail{Path: under(info.prefix, path)}
}
