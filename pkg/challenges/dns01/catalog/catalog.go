// Package catalog knows the DNS providers of the acmed-dns worker: their names and the environment variables that each
// one takes. It is a table generated from lego's sources, so that a configuration can be checked without linking any
// provider and without running a constructor, which may do network requests.
//
// It does not know what a variable means; the address of the description in lego's documentation is [Provider.Help].
package catalog

import (
	_ "embed" // the table
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
)

//go:generate sh -c "go run gen.go \"$(go list -m -f '{{.Dir}}' github.com/go-acme/lego/v4)\""

//go:embed providers.jsonl
var table string

// Provider is what the table has about one DNS provider.
type Provider struct {
	Name    string   `json:"name"` // as in the configuration, for example "cloudflare"
	Title   string   `json:"title"`
	URL     string   `json:"url"`
	Aliases []string `json:"aliases,omitempty"`

	// Closed says that the provider has shut down; it is known so that the message can say it.
	Closed bool `json:"closed,omitempty"`

	// Required lists the ways to give credentials. Each way is a list of groups; one variable of every group must be
	// set. Empty: the provider finds its credentials in other ways, or takes none.
	Required    [][][]string `json:"required,omitempty"`
	Credentials []Variable   `json:"credentials,omitempty"`
	Options     []Variable   `json:"options,omitempty"`
}

// Variable is one environment variable. Every variable NAME can also be given as NAME_FILE, the path of a file that
// holds the value, where the provider reads it itself rather than through its vendor's library.
type Variable struct {
	Name    string `json:"name"`
	Default string `json:"default,omitempty"`
}

// Help is the address of the provider's page in lego's documentation.
func (p *Provider) Help() string { return "https://go-acme.github.io/lego/dns/" + p.Name + "/" }

// All lists the providers in the order of their names.
func All() iter.Seq[*Provider] {
	return func(yield func(*Provider) bool) {
		for line := range strings.Lines(table) {
			p := new(Provider)
			if json.Unmarshal([]byte(line), p) == nil && !yield(p) {
				return
			}
		}
	}
}

// Lookup returns the provider of a name or alias. The error for an unknown name suggests the nearest one.
func Lookup(name string) (*Provider, error) {
	best, distance := "", len(name)/2+1
	for p := range All() {
		if p.Name == name || slices.Contains(p.Aliases, name) {
			return p, nil
		}
		if d := levenshtein(strings.ToLower(name), p.Name); d < distance {
			best, distance = p.Name, d
		}
	}
	if best != "" {
		return nil, fmt.Errorf("unknown DNS provider %q; did you mean %q?", name, best)
	}
	return nil, fmt.Errorf("unknown DNS provider %q; `acmed dns list` prints all of them", name)
}

// Check reports why a provider cannot work with the variables of env: it is unknown, or a required variable is missing.
// The text names variables and never values.
func Check(name string, env map[string]string) error {
	p, err := Lookup(name)
	if err != nil {
		return err
	}
	switch {
	case p.Closed:
		return fmt.Errorf("DNS provider %s has shut down; choose another", name)
	case p.Name == "manual":
		return fmt.Errorf("DNS provider %s asks a person to add the record, so it cannot run unattended", name)
	case len(p.Required) == 0:
		return nil
	}
	var ways []string
	for _, way := range p.Required {
		missing := unset(way, env)
		if len(missing) == 0 {
			return nil
		}
		ways = append(ways, strings.Join(missing, " and "))
	}
	text := fmt.Sprintf("DNS provider %s: the environment file lacks %s", p.Name, strings.Join(ways, ", or "))
	if typo := p.misspelt(env); typo != "" {
		text += "; " + typo
	}
	return fmt.Errorf("%s; see `acmed dns describe %s`", text, p.Name)
}

func unset(way [][]string, env map[string]string) []string {
	var missing []string
	for _, group := range way {
		if !slices.ContainsFunc(group, func(v string) bool { return env[v] != "" || env[v+"_FILE"] != "" }) {
			missing = append(missing, group[0])
		}
	}
	return missing
}

// misspelt names the variable of env that is nearest to a credential which is not set.
func (p *Provider) misspelt(env map[string]string) string {
	text, distance := "", 4
	for _, v := range append(slices.Clone(p.Credentials), p.Options...) {
		for key := range env {
			if d := levenshtein(key, v.Name); d > 0 && d < distance {
				text, distance = fmt.Sprintf("it has %s, did you mean %s?", key, v.Name), d
			}
		}
	}
	return text
}

func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
