package apache

import (
	"testing"

	"github.com/acmed/acmed/pkg/installers/installertest"
)

func TestConformance(t *testing.T) {
	installertest.Run(t, func(t *testing.T) installertest.Fixture {
		a := start(t, map[string]string{"sites-available/a.conf": site("a.example b.example", "hello")})
		l := newLineage(t, "a.example", "b.example")
		return installertest.Fixture{
			Installer: a.installer(a.config(), l),
			Names:     []string{"a.example", "b.example"},
			Root:      a.conf,
			State:     l.state,
			Publish:   l.publish,
			Reloads:   a.reloads,
			Break: map[installertest.Step]func(bool){
				installertest.TestBefore: a.flag("break-before"),
				installertest.TestAfter:  a.flag("break-after"),
				installertest.Reload:     a.flag("break-reload"),
				installertest.Probe:      a.flag("break-probe"),
			},
			Comment: "# an operator was here",
		}
	})
}
