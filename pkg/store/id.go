package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// timeFormat is how times appear in file names: in UTC, to the second, in an order that sorts.
const timeFormat = "20060102T150405Z"

const shortFingerprint = 8 // digits of the leaf's fingerprint in a version ID

// newID names a version by the time at which it is stored and by its leaf.
func newID(b *certs.Bundle, now time.Time) (string, error) {
	id := now.UTC().Format(timeFormat) + "-" + certs.Fingerprint(b.Leaf)[:shortFingerprint]
	if _, ok := parseID(id); !ok {
		return "", fmt.Errorf("the time %s cannot be right", now)
	}
	return id, nil
}

// parseID checks the form of a version ID, so that it can be used as a path, and returns its time.
func parseID(id string) (created time.Time, ok bool) {
	stamp, short, found := strings.Cut(id, "-")
	if !found || len(short) != shortFingerprint || strings.Trim(short, "0123456789abcdef") != "" {
		return time.Time{}, false
	}
	created, err := time.Parse(timeFormat, stamp)
	return created, err == nil && sane(created)
}
