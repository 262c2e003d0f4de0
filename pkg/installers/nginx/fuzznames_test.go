package nginx

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/installers"
)

// namePieces are what FuzzNamesAsNginx builds configurations from.
var namePieces = []string{
	"server {", "}", "\n", " ", ";", "server_name a.example;", "server_name b.example *.c.example;", `server_name "d.example" 'e.example';`, "server_name ",
	"f.example ", "# server_name no.example;\n", "include names.inc;", "include many/*.inc;", "location / { }", "map $host $x { server_name x; }", "server_name g\\.example;",
	"listen 127.0.0.1:{plain};", "include servers.inc;", "server_name .h.example # i.example\n j.example;", "set $server_name x;",
}

// FuzzNamesAsNginx compares the names that acmed finds with those in the dump of nginx.
func FuzzNamesAsNginx(f *testing.F) {
	n := newInstance(f, map[string]string{
		"sites/fuzz.conf": "",
		"names.inc":       "server_name inc.example;\n", "many/1.inc": "server_name one.example;\n", "many/2.inc": "server_name two.example;\n",
		"servers.inc": "server { listen 127.0.0.1:{plain}; server_name other.example; }\n",
	})
	for _, input := range [][]byte{{0, 16, 5, 1}, {0, 16, 6, 7, 1, 2, 0, 16, 11, 12, 1}, {14, 17, 2, 0, 16, 18, 10, 1}, {0, 16, 8, 9, 9, 4, 13, 15, 1}, {0, 16, 19, 5, 1}} {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		text := ""
		for _, b := range input[:min(len(input), 48)] {
			text += namePieces[int(b)%len(namePieces)]
		}
		must(t, os.WriteFile(n.path("sites/fuzz.conf"), []byte(n.expand(text)), 0o600))
		argv := []string{defaultBinary, "-T", "-p", n.run, "-c", n.path("nginx.conf")}
		dump, err := installers.Command{Argv: argv, MaxOutput: 1 << 20}.Run(t.Context())
		if failed := (*installers.CommandError)(nil); errors.As(err, &failed) {
			return // nginx does not read it
		} else if err != nil {
			t.Fatal(err)
		}
		tree, err := load(n.path("nginx.conf"), nil)
		if err != nil {
			t.Fatalf("nginx reads what acmed does not: %v\n%s", err, text)
		}
		m, err := buildModel(tree, resolver(t.Context()))
		if err != nil {
			t.Fatalf("nginx reads what acmed does not: %v\n%s", err, text)
		}
		found := []string{}
		for _, s := range m.servers {
			for _, name := range s.names {
				if name != "" {
					found = append(found, name)
				}
			}
		}
		slices.Sort(found)
		if diff := cmp.Diff(dumpedNames(string(dump)), slices.Compact(found)); diff != "" {
			t.Errorf("-nginx +acmed:\n%s\n%s", diff, text)
		}
	})
}

// dumpedNames are the words behind server_name in the files of a dump, in which a map may have a word that is none.
func dumpedNames(dump string) []string {
	names := []string{}
	var words []string
	inMap := false
	for line := range strings.Lines(dump) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.NewReplacer(";", " ; ", "{", " { ", "}", " } ", `"`, "", "'", "").Replace(line)
		for _, word := range strings.Fields(line) {
			switch {
			case word == ";" && len(words) > 0 && words[0] == "server_name" && !inMap:
				names = append(names, words[1:]...)
				words = nil
			case word == ";", word == "{", word == "}":
				inMap = inMap && word != "}" || word == "{" && len(words) > 0 && words[0] == "map"
				words = nil
			default:
				words = append(words, word)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
