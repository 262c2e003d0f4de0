package helper

import (
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// DefaultSocket is where acmed-installd.socket listens.
const DefaultSocket = "/run/acmed-installd.sock"

// The verbs.
const (
	verbInstall   = "install"
	verbVerify    = "verify"
	verbUninstall = "uninstall"
	verbPreview   = "preview"
	verbNotes     = "notes"
	verbExamine   = "examine" // takes no certificate
	verbRestart   = "restart" // names no target
)

// maxMessage holds two chains of the largest allowed size and two keys of 4096 bits, escaped, with room to spare.
const maxMessage = 1 << 20

// request is the body of every verb.
type request struct {
	Target string  `json:"target,omitempty"`
	Bundle *bundle `json:"bundle,omitempty"`
}

// bundle is a certificate on its way over the socket. The key is in clear: the kernel shows the socket to nobody else.
type bundle struct {
	FullChain string  `json:"fullchain"`
	Key       string  `json:"key,omitempty"`
	Issuer    string  `json:"issuer,omitempty"`
	RSA       *bundle `json:"rsa,omitempty"`
}

// answer is what comes back; an empty one is success.
type answer struct {
	Diff  string   `json:"diff,omitempty"` // or the notes, one a line
	Error *failure `json:"error,omitempty"`
}

// kind keeps the meaning of an error over the socket.
type kind string

const (
	kindFailed      kind = "failed"
	kindRefused     kind = "refused"      // the request itself: unknown target, wrong certificate, a stranger
	kindStopped     kind = "not-running"  // installers.NotRunningError
	kindLater       kind = "later"        // installers.LaterError
	kindNewer       kind = "newer"        // installers.NewerError
	kindBrokenConf  kind = "broken"       // installers.BrokenServerError
	kindRefusedEdit kind = "refused-edit" // installers.RefusedEditError
)

type failure struct {
	Kind    kind   `json:"kind"`
	Message string `json:"message"`
	Server  string `json:"server,omitempty"`
	After   int    `json:"after,omitempty"` // seconds, for later
	Found   string `json:"found,omitempty"` // fingerprint of what is there, for newer

	Advice advice.Code `json:"advice,omitempty"`
}

// refusal is an error that is the client's fault.
type refusal struct{ error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

func failureOf(err error) *failure {
	var (
		stopped *installers.NotRunningError
		later   *installers.LaterError
		broken  *installers.BrokenServerError
		newer   *installers.NewerError
		edit    *installers.RefusedEditError
		refused refusal
	)
	switch {
	case errors.As(err, &refused):
		return &failure{Kind: kindRefused, Message: err.Error()}
	case errors.As(err, &stopped):
		return &failure{Kind: kindStopped, Message: err.Error(), Server: stopped.Server}
	case errors.As(err, &later):
		return &failure{Kind: kindLater, Message: later.Err.Error(), After: int(later.After / time.Second)}
	case errors.As(err, &broken):
		return &failure{Kind: kindBrokenConf, Message: broken.Err.Error()}
	case errors.As(err, &newer):
		return &failure{Kind: kindNewer, Message: err.Error(), Found: newer.Fingerprint, Advice: advice.Of(err)}
	case errors.As(err, &edit):
		return &failure{Kind: kindRefusedEdit, Message: err.Error(), Advice: advice.Of(err)}
	}
	return &failure{Kind: kindFailed, Message: err.Error(), Advice: advice.Of(err)}
}

// err is the error that the failure was made of, as far as its type matters to callers.
func (f *failure) err() error {
	cause := errors.New(text.Tail(f.Message, text.Most))
	switch f.Kind {
	case kindStopped:
		return &installers.NotRunningError{Server: text.Tail(f.Server, text.Most)}
	case kindLater:
		return &installers.LaterError{After: time.Duration(max(f.After, 0)) * time.Second, Err: cause}
	case kindBrokenConf:
		return &installers.BrokenServerError{Err: cause}
	case kindNewer:
		return advice.Tag(f.Advice, &installers.NewerError{Fingerprint: text.Tail(f.Found, text.Most), Err: cause})
	case kindRefusedEdit:
		return advice.Tag(f.Advice, &installers.RefusedEditError{Err: cause})
	}
	return advice.Tag(f.Advice, cause)
}

// pack takes the key along only if the verb needs it.
func pack(b *certs.Bundle, withKey bool) *bundle {
	if b == nil {
		return nil
	}
	p := &bundle{FullChain: string(b.FullChainPEM()), Issuer: b.Issuer, RSA: pack(b.RSA, withKey)}
	if withKey {
		p.Key = string(b.KeyPEM)
	}
	return p
}

// unpack parses what a client sent and checks that every key belongs to its certificate.
func (p *bundle) unpack() (*certs.Bundle, error) {
	b, err := certs.NewBundle([]byte(p.FullChain), []byte(p.Key))
	if err != nil {
		return nil, err
	}
	b.Issuer = p.Issuer
	if p.RSA == nil {
		return b, nil
	}
	if p.RSA.RSA != nil {
		return nil, errors.New("an RSA certificate beside an ECDSA one has no further certificate beside it")
	}
	if b.RSA, err = p.RSA.unpack(); err != nil {
		return nil, fmt.Errorf("the RSA twin: %w", err)
	}
	return b, nil
}
