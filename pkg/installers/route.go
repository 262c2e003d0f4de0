package installers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ChallengeRoute asks a web server to forward the http-01 challenges (RFC 8555 section 8.3) for some names to acmed.
type ChallengeRoute struct {
	Certificate string   // whose name marks the lines; of several, joined by commas
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

// routeNames separates the names of certificates in a mark.
const routeNames = ","

// routeMark is a mark of a route with the names of its certificates.
var routeMark = regexp.MustCompile(`(?m)^[ \t]*(?:` + routeBegin + `|` + routeEnd + `)(\S+)`)

// RouteMarks finds the names of certificates in the marks of routes: for each mark the offsets around them.
func RouteMarks(text []byte) (marks [][2]int) {
	for _, found := range routeMark.FindAllSubmatchIndex(text, -1) {
		marks = append(marks, [2]int{found[2], found[3]})
	}
	return marks
}

// JoinRouteNames adds the names of certificates to those of a mark.
func JoinRouteNames(names, more string) string {
	list := strings.Split(names, routeNames)
	for _, name := range strings.Split(more, routeNames) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return strings.Join(list, routeNames)
}

// RemoveRoute takes the lines of a certificate's routes out of a file, so that it has the bytes of before; lines that other
// certificates share only lose its name. Lines between the marks that were edited are a [*ConflictError], which names the
// file.
func RemoveRoute(path string, text []byte, certificate string) ([]byte, error) {
	var out []byte
	for rest := text; len(rest) > 0; {
		line, after := cutLine(rest)
		mark, isMark := strings.CutPrefix(strings.TrimSpace(line), routeBegin)
		names, mark, _ := strings.Cut(mark, " ")
		left := slices.DeleteFunc(strings.Split(names, routeNames), func(name string) bool { return name == certificate })
		if !isMark || len(left) == strings.Count(names, routeNames)+1 {
			out, rest = append(out, line...), after
			continue
		}
		begin, end := line, ""
		var lines []string
		for end == "" && len(after) > 0 {
			line, after = cutLine(after)
			if strings.TrimSpace(line) == routeEnd+names {
				end = line
			} else {
				lines = append(lines, line)
			}
		}
		hash, inline, _ := strings.Cut(mark, " ")
		switch {
		case end != "" && len(left) > 0:
			joined := strings.Join(left, routeNames)
			out = append(out, strings.Replace(begin, routeBegin+names, routeBegin+joined, 1)+strings.Join(lines, "")+strings.Replace(end, routeEnd+names, routeEnd+joined, 1)...)
		case end == "" || hash != routeHash(lines):
			return nil, &ConflictError{Path: path, Reason: fmt.Sprintf("the lines after %q were edited: remove them by hand", routeBegin+names)}
		case inline == routeInline:
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
