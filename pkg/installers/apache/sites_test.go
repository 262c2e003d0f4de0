package apache

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/installers/webserver"
)

func TestSites(t *testing.T) {
	a := newInstance(t, map[string]string{
		"conf-enabled/root.conf": "DocumentRoot {run}\n",
		"sites-available/a.conf": "<VirtualHost 127.0.0.1:{plain}>\n\tServerName A.example\n\tServerAlias www.a.example *.a.example localhost\n\tDocumentRoot \"/srv/a\"\n</VirtualHost>\n" +
			"<VirtualHost 127.0.0.1:{plain}>\n\tServerName b.example\n</VirtualHost>\n",
		"sites-available/c.conf": "<VirtualHost 127.0.0.1:{plain}>\n</VirtualHost>\n",
	})
	got, err := Sites(t.Context(), a.config())
	if err != nil {
		t.Fatal(err)
	}
	want := []webserver.Site{
		{Names: []string{"a.example", "www.a.example", "*.a.example"}, Place: a.path("sites-enabled/a.conf") + ":1", Root: "/srv/a"},
		{Names: []string{"b.example"}, Place: a.path("sites-enabled/a.conf") + ":6", Root: a.run},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
