package issuer

import (
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/text"
)

// The field names of this package's log lines; operators search for them.
func zapIssuer(i *Issuer) zap.Field      { return zap.String("issuer", i.config.Name) }
func zapAccount(uri string) zap.Field    { return zap.String("account", uri) }
func zapCert(name string) zap.Field      { return zap.String("certificate", name) }
func zapName(value string) zap.Field     { return zap.String("identifier", value) }
func zapSolver(name string) zap.Field    { return zap.String("solver", name) }
func zapError(err error) zap.Field       { return zap.String("error", text.Short(err.Error(), maxText)) }
func zapText(key, said string) zap.Field { return zap.String(key, text.Short(said, maxText)) }

// caught turns a panic, of a solver or of what reads a CA's answer, into an error of this order. It is for every function
// that runs in a goroutine of its own, where a panic would end the program.
func (j *job) caught(where string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("internal error in %s: %v", where, r)
		j.i.config.Log.Error("a part of an order panicked", zapCert(j.req.Spec.Name), zap.String("where", where), zapText("panic", fmt.Sprint(r)),
			zap.ByteString("stack", debug.Stack()))
	}
}
