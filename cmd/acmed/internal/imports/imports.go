// Package imports reads what other ACME clients keep: certificates with their keys, accounts, and how each certificate is
// validated and installed.
//
// It promises to change nothing there, to name every setting that it does not understand, and to believe a file no more
// than its owner: what decides which programs run must belong to root or to the user that runs acmed. No error and no note
// has any part of a key or of a credential. It does not decide what acmed does with any of it.
package imports

import (
	"crypto"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Tree is everything that was found.
type Tree struct {
	Program  string // for messages
	Dir      string
	Email    string    // of one of the accounts
	Stop     string    // the command that ends its renewals; "" when there is none that fits everywhere
	Lineages []Lineage // by name
	Notes    []string  // what holds for all certificates
	Problems []error   // what could not be read; the rest is complete
}

// Lineage is one certificate that the program renews.
type Lineage struct {
	Name     string
	Server   string          // URL of the CA's directory
	Versions []*certs.Bundle // the last one is in use
	Account  *Account        // nil when it was not found

	ReuseKey, MustStaple                 bool
	Profile, PreferredChain, RenewBefore string

	Challenge Challenge
	Target    WebServer // into which the program installs it
	Copies    []Copy
	Hooks     []Hook // run after a renewal
	Unserved  string // what to do if no server is found that serves it; "" when there is nothing special
	Notes     []string
}

// Account is an account at a CA.
type Account struct {
	ID      string
	URI     string // at the CA; "" when it is not known
	Contact string // email address; "" when there is none or it is not known
	Created time.Time
	Key     crypto.Signer
}

// WebServer is one of this machine.
type WebServer struct {
	Kind     string         // nginx or apache
	Settings map[string]any // of its section under install
	Managed  bool           // its sites have no certificate files of their own: the program is a part of it
}

// Challenge is how the names are validated. The first field that is set counts; the zero value is http-01 on port 80.
type Challenge struct {
	Unknown   string            // what must be done, because there is no counterpart
	Provider  string            // a DNS provider of acmed-dns
	Values    map[string]string // its variables
	From      string            // where they were looked for
	Variables []string          // which of them, as NAME=(what it is called there)
	RFC2136   map[string]any    // the section; its key is in TSIGKey
	TSIGKey   string
	Command   []string          // a program that sets TXT records, with Values as its environment
	Site      WebServer         // the directory that a site of it serves
	Webroots  map[string]string // by name
	Webroot   string            // of the other names
	Dir       string            // served as /.well-known/acme-challenge/
	ALPN      bool              // tls-alpn-01
	Listen    string            // HOST:PORT
}

// Copy is a set of files that the program writes for a server. Empty names are not written.
type Copy struct {
	Cert, Chain, FullChain, Key string // absolute paths
	Reload                      Hook   // afterwards
}

// Hook is a command line.
type Hook struct {
	Text string   // for a shell
	Argv []string // in its place
}

// Empty reports whether there is nothing to run.
func (h Hook) Empty() bool { return h.Text == "" && len(h.Argv) == 0 }

// Source says where a program's files are.
type Source struct {
	Dir       string   // "" for the usual places
	Settings  []string // its configuration, or the systemd unit, crontab or script that runs it; none for the usual places
	Directory string   // URL of the CA's directory, where the program does not keep it
}

// program is one that can be read.
type program struct {
	name string
	dirs []string // the usual places; ~ is the home directory
	read func(t *Tree, src Source) error
}

func programs() []program {
	return []program{
		{"acme.sh", []string{"~/.acme.sh", "/root/.acme.sh"}, readAcmeSh},
		{"caddy", []string{"/var/lib/caddy/.local/share/caddy", "~/.local/share/caddy"}, readCaddy},
		{"certbot", []string{"/etc/letsencrypt"}, readCertbot},
		{"dehydrated", []string{"/var/lib/dehydrated", "/etc/dehydrated"}, readDehydrated},
		{"lego", []string{"/etc/lego", "/var/lib/lego", "~/.lego", "/root/.lego"}, readLego},
		{"mod_md", []string{"/var/lib/apache2/md", "/etc/apache2/md", "/var/lib/httpd/md", "/etc/httpd/state/md"}, readModMD},
		{"traefik", []string{"/etc/traefik/acme.json", "/var/lib/traefik/acme.json", "/etc/traefik/acme/acme.json", "/letsencrypt/acme.json"}, readTraefik},
	}
}

// Programs lists the names that [Read] knows.
func Programs() []string {
	var names []string
	for _, p := range programs() {
		names = append(names, p.name)
	}
	return names
}

// Read reads what a program has. The error says that there is nothing of it; what is wrong with single certificates is in
// Problems.
func Read(name string, src Source) (*Tree, error) {
	i := slices.IndexFunc(programs(), func(p program) bool { return p.name == name })
	if i < 0 {
		return nil, fmt.Errorf("%q is not a program that acmed can import from: %s", name, strings.Join(Programs(), ", "))
	}
	p := programs()[i]
	var err error
	if src.Dir == "" {
		src.Dir, err = usual(p)
	}
	if err == nil {
		src.Dir, err = filepath.Abs(src.Dir)
	}
	if err != nil {
		return nil, err
	}
	t := &Tree{Program: name, Dir: src.Dir}
	if err := p.read(t, src); err != nil {
		return nil, fmt.Errorf("%s has nothing of %s: %w", src.Dir, name, err)
	}
	slices.SortStableFunc(t.Lineages, func(a, b Lineage) int { return strings.Compare(a.Name, b.Name) })
	for k := range t.Lineages {
		if a := t.Lineages[k].Account; a != nil && t.Email == "" {
			t.Email = a.Contact
		}
	}
	return t, nil
}

// usual is the first of the usual places that exists, or else the first.
func usual(p program) (string, error) {
	home, err := os.UserHomeDir()
	var first string
	for _, dir := range p.dirs {
		if rest, ok := strings.CutPrefix(dir, "~"); ok {
			if err != nil {
				continue
			}
			dir = home + rest
		}
		if exists(dir) {
			return dir, nil
		}
		if first == "" {
			first = dir
		}
	}
	return first, nil
}

func (t *Tree) problem(what string, err error) {
	if err != nil {
		t.Problems = append(t.Problems, fmt.Errorf("%s: %w", what, err))
	}
}

func (l *Lineage) note(format string, args ...any) {
	l.Notes = append(l.Notes, fmt.Sprintf(format, args...))
}

// has reports whether the certificate in use has one of the names.
func (l *Lineage) has(names ...string) bool {
	leaf := l.Versions[len(l.Versions)-1].Leaf
	return slices.ContainsFunc(names, func(n string) bool {
		return slices.Contains(leaf.DNSNames, n) || slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool { return ip.String() == n })
	})
}

// mail is the address of the first mailto contact, "" when there is none.
func mail(contacts []string) string {
	for _, c := range contacts {
		if address, ok := strings.CutPrefix(c, "mailto:"); ok {
			return address
		}
	}
	return ""
}

// nameOf makes a name for a certificate of its first DNS name or address.
func nameOf(b *certs.Bundle) string {
	switch {
	case len(b.Leaf.DNSNames) > 0:
		return strings.Replace(b.Leaf.DNSNames[0], "*", "wildcard", 1)
	case len(b.Leaf.IPAddresses) > 0:
		return b.Leaf.IPAddresses[0].String()
	}
	return "certificate"
}
