// Package httplog decides what of a web server's own messages is logged.
package httplog

import (
	"log"
	"strings"

	"go.uber.org/zap"
)

// Panics is for [net/http.Server.ErrorLog]: it logs panics of handlers, which net/http survives, as errors with their stack,
// and drops the rest, which is about the mistakes of clients. The server is named in the entry. A nil logger drops all.
func Panics(to *zap.Logger, server string) *log.Logger {
	if to == nil {
		to = zap.NewNop()
	}
	return log.New(panics{to.With(zap.String("server", server))}, "", 0)
}

type panics struct{ log *zap.Logger }

// Write gets one message.
func (p panics) Write(message []byte) (int, error) {
	if what, stack, _ := strings.Cut(string(message), "\n"); strings.HasPrefix(what, "http: panic serving ") {
		p.log.Error("request handler panicked", zap.String("panic", what), zap.String("stack", stack))
	}
	return len(message), nil
}
