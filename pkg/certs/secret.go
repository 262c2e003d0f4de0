package certs

import (
	"fmt"
	"io"
)

const redacted = "<redacted>"

// Secret is a value that must never be seen: a private key, an HMAC, a token. Every way of printing it, through fmt,
// encoding/json, encoding text or zap, shows "<redacted>". Code that needs the bytes converts with []byte(s).
type Secret []byte

// String returns "<redacted>".
func (s Secret) String() string { return redacted }

// GoString returns "<redacted>", so that %#v does not print the bytes either.
func (s Secret) GoString() string { return redacted }

// Format writes "<redacted>" for every verb, %x and %q included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "<redacted>". It also serves encoding/json, yaml encoders and zap's reflection.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
