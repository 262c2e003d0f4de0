package nginx

import (
	"testing"

	"github.com/acmed/acmed/pkg/installers/installertest"
)

func TestConformance(t *testing.T) {
	installertest.Run(t, func(t *testing.T) installertest.Fixture {
		n := start(t, map[string]string{"sites/a.conf": site("a.example b.example", "hello")})
		l := newLineage(t, "a.example", "b.example")
		return installertest.Fixture{
			Installer: n.installer(n.config(), l),
			Names:     []string{"a.example", "b.example"},
			Root:      n.conf,
			State:     l.state,
			Publish:   l.publish,
			Reloads:   n.reloads,
			Break: map[installertest.Step]func(bool){
				installertest.TestBefore: n.flag("break-before"),
				installertest.TestAfter:  n.flag("break-after"),
				installertest.Reload:     n.flag("break-reload"),
				installertest.Probe:      n.flag("break-probe"),
			},
			Comment: "# an operator was here",
		}
	})
}
