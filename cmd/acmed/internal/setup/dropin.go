package setup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/internal/text"
)

// Main is a new main file. Empty values are left out.
type Main struct {
	Email    string `yaml:"email,omitempty"`
	AgreeTOS bool   `yaml:"agree_tos,omitempty"`
	Include  string `yaml:"include"`
	StateDir string `yaml:"state_dir,omitempty"`
	Socket   string `yaml:"socket,omitempty"`
}

// Dropin is one file for conf.d; the keys are those of package config. Empty values are left out.
type Dropin struct {
	Notes        []string      `yaml:"-"` // for whoever reads the file
	Issuers      []Issuer      `yaml:"issuers,omitempty"`
	Solvers      []Solver      `yaml:"solvers,omitempty"`
	Certificates []Certificate `yaml:"certificates,omitempty"`
}

// Issuer is a CA that is not built in.
type Issuer struct {
	Name      string `yaml:"name"`
	Directory string `yaml:"directory"`
	CAFile    string `yaml:"ca_file,omitempty"`
	Private   bool   `yaml:"private,omitempty"`
}

// Solver is a way to prove names.
type Solver struct {
	Name   string         `yaml:"name"`
	Zones  []string       `yaml:"zones,omitempty,flow"`
	HTTP01 *HTTP01        `yaml:"http-01,omitempty"`
	ALPN01 *HTTP01        `yaml:"tls-alpn-01,omitempty"`
	DNS01  map[string]any `yaml:"dns-01,omitempty"`
}

// HTTP01 has one of them.
type HTTP01 struct {
	Listen       string `yaml:"listen,omitempty"`
	Webroot      string `yaml:"webroot,omitempty"`
	ChallengeDir string `yaml:"challenge_dir,omitempty"`
}

// Certificate is one certificate.
type Certificate struct {
	Name           string    `yaml:"name"`
	Names          []string  `yaml:"names,flow"`
	Issuers        []string  `yaml:"issuers,omitempty,flow"`
	Solvers        []string  `yaml:"solvers,omitempty,flow"`
	KeyType        string    `yaml:"key_type,omitempty"`
	ReuseKey       bool      `yaml:"reuse_key,omitempty"`
	MustStaple     bool      `yaml:"must_staple,omitempty"`
	Profile        string    `yaml:"profile,omitempty"`
	PreferredChain string    `yaml:"preferred_chain,omitempty"`
	RenewBefore    string    `yaml:"renew_before,omitempty"`
	Install        []Install `yaml:"install,omitempty"`
}

// Install is one target: the kind of server, and its settings.
type Install map[string]map[string]any

// mainHeader begins a new main file.
const mainHeader = `# yaml-language-server: $schema=/usr/share/doc/acmed/acmed.schema.json
# The configuration of acmed. Every setting is explained in acmed.yaml(5) and in
# /usr/share/doc/acmed/acmed.yaml; "acmed check" says everything that is wrong with this file.
`

// Text is the file.
func (m Main) Text() ([]byte, error) {
	body, err := yaml.Marshal(m)
	return append([]byte(mainHeader), body...), err
}

// Text is the file, with the hash by which [Sealed] knows it.
func (d *Dropin) Text() ([]byte, error) { return sealed(d.Notes, d) }

func sealed(notes []string, content any) ([]byte, error) {
	var body bytes.Buffer
	for _, note := range notes {
		for line := range strings.Lines(text.Lines(note)) {
			fmt.Fprintf(&body, "# %s\n", strings.TrimRight(line, "\n"))
		}
	}
	enc := yaml.NewEncoder(&body)
	enc.SetIndent(2)
	if err := enc.Encode(content); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return append([]byte(seal(body.Bytes())), body.Bytes()...), nil
}

// sealHeader begins a drop-in file; the hash of everything after it follows.
const sealHeader = `# Written by acmed, which replaces or removes this file only as long as nobody edits it.
# sha256 of what follows: `

func seal(body []byte) string {
	sum := sha256.Sum256(body)
	return sealHeader + hex.EncodeToString(sum[:]) + "\n"
}

// Sealed reports whether a file is as [Dropin.Text] made it.
func Sealed(text []byte) bool {
	size := len(seal(nil))
	return len(text) >= size && string(text[:size]) == seal(text[size:])
}
