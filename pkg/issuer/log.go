package issuer

import (
	"go.uber.org/zap"
)

// The field names of this package's log lines; operators search for them.
func zapIssuer(i *Issuer) zap.Field      { return zap.String("issuer", i.config.Name) }
func zapAccount(uri string) zap.Field    { return zap.String("account", uri) }
func zapCert(name string) zap.Field      { return zap.String("certificate", name) }
func zapName(value string) zap.Field     { return zap.String("identifier", value) }
func zapSolver(name string) zap.Field    { return zap.String("solver", name) }
func zapError(err error) zap.Field       { return zap.String("error", clean(err.Error(), maxText)) }
func zapText(key, text string) zap.Field { return zap.String(key, clean(text, maxText)) }
