package installers

import (
	"context"

	"github.com/acmed/acmed/pkg/certs"
)

// Installer puts a bundle where one server serves it. Both methods are safe for concurrent use.
type Installer interface {
	// Install makes the target serve b. It is idempotent: a second call with the same bundle changes nothing. It is all
	// or nothing: after an error the target serves what it served before, except after a [*NotRunningError], where the
	// files are in place and the server reads them when it is started.
	Install(ctx context.Context, b *certs.Bundle) error
	// Verify returns nil when the target serves b. It changes nothing.
	Verify(ctx context.Context, b *certs.Bundle) error
}

// Uninstaller is an [Installer] that can take back all it ever changed, byte for byte. It is idempotent. A file that
// somebody else edited since is never overwritten: that is a [*ConflictError].
type Uninstaller interface {
	Uninstall(ctx context.Context) error
}

// Previewer is an [Installer] that can show what Install would change, as a unified diff without any secret. It changes
// nothing; "" means that there is nothing to do.
type Previewer interface {
	Preview(ctx context.Context, b *certs.Bundle) (string, error)
}

// Examiner is an [Installer] that can say, before there is a certificate, why Install would fail. It changes nothing. A
// server that does not run is a [*NotRunningError].
type Examiner interface {
	Examine(ctx context.Context) error
}

// Noter is an [Installer] that reports what an operator should know about an installation of b that succeeds. It changes
// nothing.
type Noter interface {
	Notes(ctx context.Context, b *certs.Bundle) ([]string, error)
}

// NoPreview is what to show for an [Installer] that is no [Previewer] and has something to do: a program decides, or
// somebody else's service.
const NoPreview = "what this changes cannot be shown\n"

// Recoverer is an [Installer] that settles at start what a crash left behind: the configuration is afterwards as it was
// before the interrupted Install, or as a finished Uninstall leaves it. It is idempotent and quick when there is nothing
// to settle.
type Recoverer interface {
	Recover(ctx context.Context) error
}

// Target is what a plugin learns about the certificate that it installs. It is built from the configuration; making a
// plugin from it touches neither network nor disk.
type Target struct {
	Certificate string             // the lineage's name
	Names       []certs.Identifier // the names in the certificate, in the operator's order
	Cert        string             // absolute live path of the leaf, through the lineage's "current" link
	Chain       string             // absolute live path of the issuers
	FullChain   string             // absolute live path of leaf and issuers
	Key         string             // absolute live path of the private key
	Journal     string             // absolute directory for this target's undo record, below the state directory
	Server      *Server            // the server to test and reload, shared by its targets; nil when the plugin makes its own
}
