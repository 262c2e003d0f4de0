package apache

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
)

// namePieces are what FuzzNamesAsApache builds the inside of a virtual host from.
var namePieces = []string{
	"\n", " ", "\\\n", "ServerName a.example\n", "ServerAlias ", "ServerAlias b.example c.example\n", "*.w.example ", "\"d.example\" ", "x${V}.example ", "${U} ",
	"Define V v\n", "Define V w\n", "Define W\n", "<IfDefine V>\n", "<IfDefine !V>\n", "</IfDefine>\n", "<IfModule ssl_module>\n", "</IfModule>\n",
	"# ServerAlias no.example\n", "ServerAlias E.Example\n", "Include names.inc\n", "ServerName ${U}\n", "<Location /x>\n", "</Location>\n", "serveralias f.example \\\n",
}

// FuzzNamesAsApache compares the names that acmed reads in a virtual host with those that Apache lists. Apache lists aliases
// only where several virtual hosts share an address, so it is asked once with a second one, and acmed reads them without.
func FuzzNamesAsApache(f *testing.F) {
	a := newInstance(f, map[string]string{"names.inc": "ServerAlias inc.example\n"})
	for _, input := range [][]byte{{3, 5}, {3, 4, 6, 7, 0}, {10, 3, 4, 8, 0}, {12, 21, 4, 9}, {13, 5, 15, 10}, {14, 5, 15}, {20, 3, 18}, {24, 19}, {10, 11, 4, 8, 3}} {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		text := "Define U u.example\n<VirtualHost *:{plain}>\n"
		for _, b := range input[:min(len(input), 32)] {
			text += namePieces[int(b)%len(namePieces)]
		}
		text += "\n</VirtualHost>\n"
		read := func(more string) ([]string, error) {
			must(t, os.WriteFile(a.path("sites-enabled/fuzz.conf"), []byte(a.expand(text+more)), 0o600))
			m, err := (&editor{cfg: *a.configFor()}).Read(t.Context())
			if err != nil {
				return nil, err
			}
			for _, v := range m.vhosts {
				if v.line == 2 && v.err == nil {
					return v.names, nil
				}
			}
			return nil, errors.New("the virtual host is not there")
		}
		listed, err := read("<VirtualHost *:{plain}>\nServerName zz.example\n</VirtualHost>\n")
		if failed := (*installers.CommandError)(nil); errors.As(err, &failed) {
			return // Apache does not read it
		}
		found, err2 := read("")
		if err != nil || err2 != nil {
			t.Fatal(errors.Join(err, err2))
		}
		for _, name := range found {
			if !slices.Contains(listed, name) {
				t.Errorf("acmed reads %q, Apache has %q in\n%s", name, listed, text)
			}
		}
		for _, name := range listed {
			if !slices.Contains(found, name) && !strings.Contains(text, "${") && !strings.Contains(text, "<If") {
				t.Errorf("Apache has %q, acmed reads %q in\n%s", name, found, text)
			}
		}
	})
}
