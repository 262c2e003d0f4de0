package config

import (
	"bytes"
	"regexp"
)

// lostFile is an included file that was left out, with its text; nil when it could not be read.
type lostFile struct {
	file string
	text []byte
}

// Incomplete reports whether [Lenient] left a file out.
func (c *Config) Incomplete() bool { return len(c.lost) > 0 }

// Lost returns where a file that [Lenient] left out defines a certificate. Such a file cannot be parsed as a whole, so its
// lines are searched for the name. A line of 0 means that a file was left out which cannot be read, so that it may define
// the certificate. Found is false when no such file is left.
func (c *Config) Lost(certificate string) (file string, line int, found bool) {
	name := regexp.MustCompile(`(?m)^[\s{,-]*(?:.*[{,]\s*)?name:\s*["']?` + regexp.QuoteMeta(certificate) + `["']?\s*(?:[,}#].*)?$`)
	for _, l := range c.lost {
		if at := name.FindIndex(l.text); at != nil {
			return l.file, 1 + bytes.Count(l.text[:at[1]], []byte{'\n'}), true
		}
		if l.text == nil && !found {
			file, found = l.file, true
		}
	}
	return file, 0, found
}
