// Package advice owns the stable codes of the failures that operators meet most, and for each of them one line that says
// what happened, one that says why, and one that says what to do.
//
// An error says its own code with a method Advice() Code, or is marked with [Tag]; [Of] finds the most telling code in an
// error, however it is wrapped and joined. The package imports nothing of acmed, so that every other one can use it. It
// does not look at the text of errors, except for that of a CA's problem document (see [OfProblem]).
package advice

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// Code names a kind of failure. The values are stable: they are in state files, events, metrics and the documentation.
type Code string

// The codes.
const (
	DiskFull           Code = "disk-full"
	ClockWrong         Code = "clock-wrong"
	CAUntrusted        Code = "ca-untrusted"
	PortTaken          Code = "port-taken"
	DaemonNotRunning   Code = "daemon-not-running"
	DaemonStuck        Code = "daemon-stuck"
	ConfigBroken       Code = "configuration-broken"
	StateLocked        Code = "state-locked"
	HelperUnreachable  Code = "helper-unreachable"
	NoPermission       Code = "no-permission"
	RateLimited        Code = "rate-limited"
	DNSSECBroken       Code = "dnssec-broken"
	CAAForbids         Code = "caa-forbids"
	ResolverSilent     Code = "resolver-silent"
	NameNotResolved    Code = "name-not-resolved"
	ProxyInFront       Code = "proxy-in-front"
	WrongAnswer        Code = "wrong-answer"
	PortClosed         Code = "port-closed"
	WebrootUnusable    Code = "webroot-unusable"
	DNSRefused         Code = "dns-refused"
	DNSPropagation     Code = "dns-propagation"
	FailedTooOften     Code = "failed-too-often"
	NameRefused        Code = "name-refused"
	ProfileNotOffered  Code = "profile-not-offered"
	AccountRefused     Code = "account-refused"
	CertificateRefused Code = "certificate-refused"
	CAUnreachable      Code = "ca-unreachable"
	ServerTestFailed   Code = "server-test-failed"
	ServerNotRunning   Code = "server-not-running"
	ClientsLockedOut   Code = "clients-locked-out"
	NotServed          Code = "not-served"
	FileEdited         Code = "file-edited"
	ClientsWouldBreak  Code = "clients-would-break"
	StateRepaired      Code = "state-repaired"
	AccountPaused      Code = "account-paused"
	RedirectRefused    Code = "redirect-refused"
	PrivateAddress     Code = "private-address"
	ServerSlow         Code = "server-slow"
	StapleRefused      Code = "must-staple-refused"
	NotSupported       Code = "not-supported"
	StoreUnreachable   Code = "store-unreachable"
	StoreNoQuorum      Code = "store-no-quorum"
	StoreFull          Code = "store-full"
	StoreDenied        Code = "store-denied"
	StoreUntrusted     Code = "store-untrusted"
	FleetMissing       Code = "fleet-missing"
	SealKeyWrong       Code = "seal-key-wrong"
)

// roots is how many codes at the beginning of the catalogue are causes: found below an error that says something else,
// they explain it.
const roots = 7

// Advised is an error that knows its code; "" leaves it to what it wraps.
type Advised interface{ Advice() Code }

type tagged struct {
	error
	code Code
}

func (e *tagged) Unwrap() error { return e.error }

// Advice is the code given.
func (e *tagged) Advice() Code { return e.code }

// Tag gives err a code. Its text and what it wraps stay the same; nil stays nil.
func Tag(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &tagged{err, code}
}

// Of returns the code of err, "" if nothing is known about it. An error's own code counts more than those of the errors
// that it wraps, unless one of them is a cause: disk, clock, trust, port, lock, helper, permission. Of several joined
// errors the code that comes first in [All] counts: it is in the way of the others.
func Of(err error) Code {
	if err == nil {
		return ""
	}
	code := own(err)
	inner := within(err)
	if code == "" || inner != "" && Rank(inner) < roots {
		return first(code, inner)
	}
	return code
}

func within(err error) Code {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		code := Code("")
		for _, e := range joined.Unwrap() {
			code = first(code, Of(e))
		}
		return code
	}
	return Of(errors.Unwrap(err))
}

// first is the code that comes first in the catalogue.
func first(a, b Code) Code {
	if b == "" || a != "" && Rank(a) <= Rank(b) {
		return a
	}
	return b
}

// Rank is the place of a code in [All], from 0; one that is not there comes last.
func Rank(c Code) int {
	list := All()
	for i := range list {
		if list[i].Code == c {
			return i
		}
	}
	return len(list)
}

// own recognises one error without what it wraps.
func own(err error) Code {
	switch e := err.(type) { //nolint:errorlint // the caller unwraps, one level at a time
	case Advised:
		return e.Advice()
	case syscall.Errno:
		return ofErrno(e)
	case x509.UnknownAuthorityError, x509.HostnameError:
		return CAUntrusted
	case x509.CertificateInvalidError:
		if e.Reason == x509.Expired {
			return ClockWrong
		}
		return CAUntrusted
	case *net.DNSError:
		return NameNotResolved
	}
	if err == fs.ErrPermission { //nolint:errorlint // as above
		return NoPermission
	}
	return ""
}

func ofErrno(e syscall.Errno) Code {
	switch e {
	case syscall.ENOSPC, syscall.EDQUOT:
		return DiskFull
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return NoPermission
	case syscall.EADDRINUSE:
		return PortTaken
	}
	return ""
}

// OfProblem is the code of a CA's problem document: its type, and where that is too general, the wording of the detail
// that Boulder and Pebble use.
func OfProblem(kind, detail string) Code {
	kind = strings.TrimPrefix(kind, "urn:ietf:params:acme:error:")
	for _, w := range wordings() {
		if kind == w.kind && strings.Contains(strings.ToLower(detail), strings.ToLower(w.text)) {
			return w.code
		}
	}
	switch kind {
	case "caa":
		return CAAForbids
	case "dns":
		return NameNotResolved
	case "connection":
		return PortClosed
	case "unauthorized", "incorrectResponse", "tls":
		return WrongAnswer
	case "rateLimited":
		return RateLimited
	case "rejectedIdentifier", "unsupportedIdentifier":
		return NameRefused
	case "invalidProfile":
		return ProfileNotOffered
	case "externalAccountRequired", "userActionRequired", "accountDoesNotExist", "invalidContact", "unsupportedContact":
		return AccountRefused
	}
	return ""
}

type wording struct {
	kind, text string
	code       Code
}

// wordings are the details that tell more than the type.
func wordings() []wording {
	return []wording{
		{"dns", "DNSSEC", DNSSECBroken},                                         // Boulder
		{"connection", "could not resolve", NameNotResolved},                    // Pebble, http-01
		{"connection", "while resolving URL", NameNotResolved},                  // Pebble, http-01
		{"malformed", "Could not resolve", NameNotResolved},                     // Pebble, tls-alpn-01
		{"malformed", "while resolving URL", NameNotResolved},                   // Pebble, tls-alpn-01
		{"unauthorized", "Failed to connect to", PortClosed},                    // Pebble, tls-alpn-01
		{"unauthorized", "TXT record", DNSPropagation},                          // Boulder and Pebble, dns-01
		{"unauthorized", "for DNS challenge", DNSPropagation},                   // Pebble, dns-01
		{"rateLimited", "temporarily prevented from requesting", AccountPaused}, // Boulder; the detail has the URL to lift the pause
		{"connection", "redirect", RedirectRefused},                             // Boulder: loops, ports, addresses, too many
		{"connection", "your server may be slow", ServerSlow},                   // Boulder: after connect, during read or write
		{"dns", "no valid A records found", PrivateAddress},                     // Boulder
		{"dns", "reserved", PrivateAddress},                                     // Boulder
		{"connection", "reserved", PrivateAddress},                              // Boulder
		{"unauthorized", "must-staple", StapleRefused},                          // Boulder
		{"malformed", "must-staple", StapleRefused},
		{"badCSR", "must-staple", StapleRefused},
		{"rejectedIdentifier", "does not permit", ProfileNotOffered}, // Boulder: IP addresses need a short-lived profile
		{"malformed", "rofile", ProfileNotOffered},                   // Boulder: "Profile not recognized"
		{"unauthorized", "rofile", ProfileNotOffered},                // Boulder: account not permitted to use it
		{"malformed", "JWS verification", AccountRefused},            // Boulder and Pebble: the key of the account was replaced
		{"malformed", "No Key ID match", AccountRefused},             // Pebble
	}
}
