package imports

import (
	_ "embed" // the table
	"maps"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
)

// dnsTable says which provider of acmed-dns other clients call how.
//
//go:embed dns.txt
var dnsTable string

// The columns of the table, for names and for variables.
const (
	inCertbot = iota
	inAcmeSh
	inCaddy
)

// dnsChallenge is the challenge of a provider that another client calls by a name of the column, with the settings that
// value returns. from says where they are.
func dnsChallenge(column int, name, from string, value func(key string) string) Challenge {
	for line := range strings.Lines(dnsTable) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[0] == "#" || fields[1+column] != name {
			continue
		}
		c := Challenge{Provider: fields[0], Values: map[string]string{}, From: from}
		for _, pair := range fields[4:] {
			variable, keys, _ := strings.Cut(pair, "=")
			if key := strings.Split(keys, ",")[column]; key != "" {
				if v := value(key); v != "" {
					c.Values[variable] = v
				}
				c.Variables = append(c.Variables, variable+"=("+key+")")
			}
		}
		return c
	}
	return Challenge{Unknown: "the names were validated by DNS provider " + name + " with " + from +
		"; choose a provider of 'acmed dns list' for a dns-01 solver"}
}

// legoChallenge is the challenge of a provider of lego, whose names and variables are those of acmed-dns, with those
// variables of an environment that are its own.
func legoChallenge(name, from string, env map[string]string) Challenge {
	p, err := catalog.Lookup(name)
	if err != nil {
		return Challenge{Unknown: err.Error()}
	}
	known := map[string]bool{}
	for _, v := range slices.Concat(p.Credentials, p.Options) {
		known[v.Name], known[v.Name+"_FILE"] = true, true
	}
	for _, way := range p.Required {
		for _, group := range way {
			for _, v := range group {
				known[v], known[v+"_FILE"] = true, true
			}
		}
	}
	values := maps.Clone(env)
	maps.DeleteFunc(values, func(name, _ string) bool { return !known[name] })
	return Challenge{Provider: p.Name, Values: values, From: from}
}
