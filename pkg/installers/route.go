package installers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// ChallengeRoute asks a web server to forward the http-01 challenges (RFC 8555 section 8.3) for some names to acmed.
type ChallengeRoute struct {
	Certificate string   // whose name marks the lines
	Names       []string // as certificates have them
	Upstream    string   // host:port at which acmed answers
}

// ChallengePath is where a CA asks for the answers to http-01 challenges.
const ChallengePath = "/.well-known/acme-challenge/"

// The marks around the lines of a route. The name of the certificate follows, and behind the first one a hash of the
// lines, and routeInline when they broke a line of the file in two.
const (
	routeBegin  = "# acmed-challenges begin "
	routeEnd    = "# acmed-challenges end "
	routeInline = "inline"
)

// Marked puts the marks of a route around lines. Inline says that the caller puts a line end before them.
func (r *ChallengeRoute) Marked(lines []string, inline bool) []string {
	begin := routeBegin + r.Certificate + " " + routeHash(lines)
	if inline {
		begin += " " + routeInline
	}
	return append(append([]string{begin}, lines...), routeEnd+r.Certificate)
}

func routeHash(lines []string) string {
	h := sha256.New()
	for _, line := range lines {
		h.Write([]byte(strings.TrimSpace(line) + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// HasRoute reports whether a file has lines of a route, of any certificate.
func HasRoute(text []byte) bool { return bytes.Contains(text, []byte(routeBegin)) }

// RemoveRoute takes the lines of a certificate's routes out of a file, so that it has the bytes of before. Lines between
// the marks that were edited are a [*ConflictError], which names the file.
func RemoveRoute(path string, text []byte, certificate string) ([]byte, error) {
	var out []byte
	for rest := text; len(rest) > 0; {
		line, after := cutLine(rest)
		mark, isMark := strings.CutPrefix(strings.TrimSpace(line), routeBegin+certificate+" ")
		if !isMark {
			out, rest = append(out, line...), after
			continue
		}
		var lines []string
		end := false
		for !end && len(after) > 0 {
			line, after = cutLine(after)
			if end = strings.TrimSpace(line) == routeEnd+certificate; !end {
				lines = append(lines, line)
			}
		}
		hash, inline, _ := strings.Cut(mark, " ")
		if !end || hash != routeHash(lines) {
			return nil, &ConflictError{Path: path, Reason: fmt.Sprintf("the lines after %q were edited: remove them by hand", routeBegin+certificate)}
		}
		if inline == routeInline {
			out = bytes.TrimSuffix(bytes.TrimSuffix(out, []byte("\n")), []byte("\r"))
		}
		rest = after
	}
	return out, nil
}

func cutLine(text []byte) (line string, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return string(text[:i+1]), text[i+1:]
	}
	return string(text), nil
}
