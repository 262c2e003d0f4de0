package haproxy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// uses is what haproxy.cfg says about one certificate file.
type uses struct {
	named   bool      // it is loaded when HAProxy reads its configuration
	name    string    // what a crt-store calls it; "" where that is its path
	ciphers []ciphers // the lists that apply where it is served
}

// ciphers is a cipher list for clients before TLS 1.3.
type ciphers struct {
	file string
	line int
	list string
}

// cfgReader collects what is said about a file.
type cfgReader struct {
	path, file string
	section    string
	store      string // name of the crt-store
	base       string // crt-base of the global section
	storeBase  string
	common     ciphers // ssl-default-bind-ciphers
	only13     bool    // for all
	aliases    []string
	found      uses
}

// readCfg reads a configuration file. One that cannot be read says nothing.
func readCfg(path, file string) uses {
	text, err := installers.ReadRegular(path)
	if err != nil {
		return uses{}
	}
	r := &cfgReader{path: path, file: filepath.Clean(file)}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if words := cfgWords(line); len(words) > 0 {
			r.line(number, words)
		}
	}
	return r.found
}

// line takes one line (HAProxy Configuration Manual, sections 2.1, 3.1, 3.11 and 5.1).
func (r *cfgReader) line(number int, words []string) {
	switch key, args := words[0], words[1:]; key {
	case "global", "defaults", "frontend", "listen", "backend", "crt-store", "userlist", "peers", "resolvers", "cache", "program", "ring":
		r.section, r.store, r.storeBase = key, strings.Join(args, ""), ""
	case "crt-base":
		if r.section == "crt-store" {
			r.storeBase = strings.Join(args, "")
		} else {
			r.base = strings.Join(args, "")
		}
	case "load":
		r.load(args)
	case "ssl-default-bind-ciphers":
		r.common = ciphers{r.path, number, strings.Join(args, "")}
	case "ssl-default-bind-options":
		r.only13 = isOnly13(args)
	case "bind", "ssl-f-use":
		r.bind(number, args)
	}
}

// load is a line of a crt-store (since HAProxy 3.0).
func (r *cfgReader) load(args []string) {
	crt, alias := after(args, "crt"), after(args, "alias")
	base := r.storeBase
	if base == "" {
		base = r.base
	}
	if len(crt) == 0 || r.under(base, crt[0]) != r.file {
		return
	}
	r.found.named = true
	if len(alias) > 0 {
		r.found.name = "@" + r.store + "/" + alias[0]
		r.aliases = append(r.aliases, r.found.name)
	}
}

// bind is a line that says which certificates a port serves.
func (r *cfgReader) bind(number int, args []string) {
	ours := false
	for _, crt := range after(args, "crt") {
		path := r.under(r.base, crt)
		ours = ours || path == r.file || path == filepath.Dir(r.file) || slices.Contains(r.aliases, crt)
	}
	for _, list := range after(args, "crt-list") {
		ours = ours || r.inList(r.under(r.base, list))
	}
	if !ours {
		return
	}
	r.found.named = true
	list := r.common
	if own := after(args, "ciphers"); len(own) > 0 {
		list = ciphers{r.path, number, own[0]}
	}
	if list.list != "" && !r.only13 && !isOnly13(args) {
		r.found.ciphers = append(r.found.ciphers, list)
	}
}

// inList reports whether a list of certificates names the file.
func (r *cfgReader) inList(path string) bool {
	text, err := installers.ReadRegular(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && (r.under(r.base, words[0]) == r.file || slices.Contains(r.aliases, words[0])) {
			return true
		}
	}
	return false
}

func (r *cfgReader) under(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// after are the words that follow a keyword, each time it stands there.
func after(args []string, keyword string) []string {
	var list []string
	for i, word := range args[:max(len(args)-1, 0)] {
		if word == keyword {
			list = append(list, args[i+1])
		}
	}
	return list
}

// isOnly13 reports whether options leave TLS 1.3 alone.
func isOnly13(args []string) bool {
	return slices.Contains(args, "force-tlsv13") || slices.Contains(after(args, "ssl-min-ver"), "TLSv1.3")
}

// cfgWords cuts a line into words as HAProxy does (Configuration Manual, section 2.2): quotes of both kinds, a backslash
// before a special character, and "#" for a comment.
func cfgWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, inside := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inside = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case strings.IndexByte("\"'", c) >= 0:
			quote, inside = c, true
		case c == '#':
			return endWord(words, &word, inside)
		case strings.IndexByte(" \t\r\n", c) >= 0:
			words, inside = endWord(words, &word, inside), false
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	return endWord(words, &word, inside)
}

// endWord adds a word that was begun.
func endWord(words []string, word *strings.Builder, begun bool) []string {
	if begun {
		words = append(words, word.String())
	}
	word.Reset()
	return words
}

// checkCiphers refuses a bundle for whose keys a cipher list of haproxy.cfg has nothing, unless the present certificate has
// a key of the same kind: then a look at who can connect decides.
func (p *Installer) checkCiphers(b *certs.Bundle, u uses) error {
	now := webserver.ReadLeaf(p.config.File)
	for _, c := range u.ciphers {
		if webserver.Unfit(c.list, b) && (now == nil || endpoint.FamilyOf(now) != endpoint.FamilyOf(b.Leaf)) {
			return advice.Tag(advice.ClientsLockedOut, fmt.Errorf("%s:%d: %s", c.file, c.line, webserver.UnfitReason))
		}
	}
	return nil
}
