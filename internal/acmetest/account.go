package acmetest

import (
	"net/http"
	"sync/atomic"
)

// StaleAccounts makes the CA refuse the first n signed requests after each key rollover, as one that caches accounts: the
// part of it that is asked does not know the new key yet.
func StaleAccounts(n int) Middleware {
	var left atomic.Int64
	stale := Problem(http.StatusBadRequest, "malformed", "JWS verification error", "")
	return func(e Endpoint, next http.Handler) http.Handler {
		switch e {
		case Directory, NewNonce, RenewalInfo:
			return next
		case KeyChange:
			return Change(func(r *Response) {
				if r.Status == http.StatusOK {
					left.Store(int64(n))
				}
			})(next)
		}
		return when(func() bool { return left.Add(-1) >= 0 }, stale)(next)
	}
}
