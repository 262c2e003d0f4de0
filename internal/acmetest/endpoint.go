package acmetest

import (
	"net/http"
	"strings"
)

// Endpoint names one kind of ACME resource (RFC 8555 section 7.1, RFC 9773).
type Endpoint string

// The endpoints of the embedded CA.
const (
	Directory     Endpoint = "directory"
	NewNonce      Endpoint = "newNonce"
	NewAccount    Endpoint = "newAccount"
	Account       Endpoint = "account"
	KeyChange     Endpoint = "keyChange"
	NewOrder      Endpoint = "newOrder"
	Order         Endpoint = "order"
	Finalize      Endpoint = "finalize"
	Authorization Endpoint = "authorization"
	Challenge     Endpoint = "challenge"
	Certificate   Endpoint = "certificate"
	Revoke        Endpoint = "revokeCert"
	RenewalInfo   Endpoint = "renewalInfo"
	Other         Endpoint = "other"
)

// Middleware wraps the handler of an endpoint. It is called for every request, so state belongs outside of it.
type Middleware func(e Endpoint, next http.Handler) http.Handler

func endpointOf(path string) Endpoint {
	switch path {
	case "/dir":
		return Directory
	case "/nonce-plz":
		return NewNonce
	case "/sign-me-up":
		return NewAccount
	case "/rollover-account-key":
		return KeyChange
	case "/order-plz":
		return NewOrder
	case "/revoke-cert":
		return Revoke
	}
	prefixes := []struct {
		prefix   string
		endpoint Endpoint
	}{
		{"/my-account/", Account},
		{"/list-orderz/", Account},
		{"/my-order/", Order},
		{"/finalize-order/", Finalize},
		{"/authZ/", Authorization},
		{"/chalZ/", Challenge},
		{"/certZ/", Certificate},
		{"/draft-ietf-acme-ari-03/renewalInfo/", RenewalInfo},
	}
	for _, p := range prefixes {
		if strings.HasPrefix(path, p.prefix) {
			return p.endpoint
		}
	}
	return Other
}
