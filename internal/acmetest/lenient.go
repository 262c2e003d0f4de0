package acmetest

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
)

// The answers of CAs in the field that differ from RFC 8555 and can mean one thing only. Each is for certain endpoints, which
// its middleware knows.

// UpperCaseIdentifiers spells the identifiers of orders and authorizations in upper case.
func UpperCaseIdentifiers() Middleware {
	upper := func(id any) {
		if id, ok := id.(map[string]any); ok {
			value, _ := id["value"].(string)
			id["value"] = strings.ToUpper(value)
		}
	}
	return At(ChangeJSON(func(doc map[string]any) {
		upper(doc["identifier"])
		list, _ := doc["identifiers"].([]any)
		for _, id := range list {
			upper(id)
		}
	}), NewOrder, Order, Finalize, Authorization)
}

// WildcardWithStar writes the authorization of a wildcard with the star; WildcardWithoutFlag leaves its flag out.
func WildcardWithStar() Middleware {
	return At(ChangeJSON(func(doc map[string]any) {
		if id, ok := doc["identifier"].(map[string]any); ok && doc["wildcard"] == true {
			value, _ := id["value"].(string)
			id["value"] = "*." + value
		}
	}), Authorization)
}

// WildcardWithoutFlag see [WildcardWithStar].
func WildcardWithoutFlag() Middleware {
	return At(ChangeJSON(func(doc map[string]any) { delete(doc, "wildcard") }), Authorization)
}

// EmptyAccount sends no body with a new account; AccountWithoutStatus one that lacks its status.
func EmptyAccount() Middleware { return At(Change(func(r *Response) { r.Body = nil }), NewAccount) }

// AccountWithoutStatus see [EmptyAccount].
func AccountWithoutStatus() Middleware {
	return At(ChangeJSON(func(doc map[string]any) { delete(doc, "status") }), NewAccount)
}

// ChallengeNotPending validates, and says then that the challenge was not pending.
func ChallengeNotPending() Middleware {
	return At(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := collect(next, r)
			refused := Problem(http.StatusBadRequest, "malformed", "the challenge is not pending", "")(next)
			w.Header().Set("Replay-Nonce", answer.Header.Get("Replay-Nonce"))
			refused.ServeHTTP(w, r)
		})
	}, Challenge)
}

// NoHeadNonce refuses HEAD at newNonce.
func NoHeadNonce() Middleware {
	return At(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			next.ServeHTTP(w, r)
		})
	}, NewNonce)
}

// UnknownAccountFails answers new orders with 500 instead of the problem accountDoesNotExist.
func UnknownAccountFails() Middleware {
	return At(Change(func(r *Response) {
		if r.Status >= http.StatusBadRequest && bytes.Contains(r.Body, []byte("accountDoesNotExist")) {
			r.Status, r.Body = http.StatusInternalServerError, []byte("internal error")
		}
	}), NewOrder)
}

// ChangeChain edits the certificates of a downloaded chain, given and returned as PEM blocks.
func ChangeChain(change func(blocks [][]byte) [][]byte) Middleware {
	return At(Change(func(r *Response) {
		var blocks [][]byte
		for rest := r.Body; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			blocks = append(blocks, pem.EncodeToMemory(block))
		}
		if len(blocks) > 0 {
			r.Body = bytes.Join(change(blocks), nil)
		}
	}), Certificate)
}

// Text puts a byte order mark and words around the blocks of a chain.
func Text(blocks [][]byte) [][]byte {
	out := [][]byte{[]byte("\ufeffBag Attributes\n    friendlyName: leaf\n")}
	for _, b := range blocks {
		out = append(out, []byte("subject=CN = something\n\n"), b, []byte("\n"))
	}
	return append(out, []byte("that is all\n"))
}

// Reversed sends the leaf last, Twice every certificate two times.
func Reversed(blocks [][]byte) [][]byte {
	slices.Reverse(blocks)
	return blocks
}

// Twice see [Reversed].
func Twice(blocks [][]byte) [][]byte { return append(slices.Clone(blocks), blocks...) }

// AlternateFault lets the nth alternate chain (0 is the first) go wrong in this way.
func AlternateFault(n int, f Fault) Middleware {
	suffix := "/alternate/" + string(rune('1'+n))
	return func(e Endpoint, next http.Handler) http.Handler {
		if e != Certificate {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, suffix) {
				f(next).ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
